"""Create plugins, and check their hooks with pluggy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pluggy

from ..agent.tools import Tool
from .commands import Command
from .context import PluginError
from .finding import BUILT_IN, FoundPlugin, find_name_fault
from .hookspecs import HOOKS, make_pluggy

T = TypeVar("T", Tool, Command)

#: By hook: a plugin's method, its parameters and its position (-1 first, 1 last).
Methods = Mapping[str, tuple[Callable[..., Any], tuple[str, ...], int]]


class Loader:
    """Loads plugins, and calls their hooks outside of turns.

    pluggy only checks the hooks (a misspelt name, an unknown parameter). It does not call them,
    since the first exception would end its chain.
    """

    def __init__(self) -> None:
        self._pluggy = make_pluggy()

    def load(self, found: FoundPlugin) -> object:
        """Import a plugin, create its only instance and check its hooks.

        :raises PluginError: if it is not a valid plugin.
        """
        fault = "" if found.source == BUILT_IN else find_name_fault(found.name)
        if fault:
            raise PluginError(fault)
        factory = found.load()
        if not callable(factory):
            raise PluginError(f"{found.where} must name a class, not {factory!r:.100}")
        plugin: object = factory()
        try:
            self._pluggy.register(plugin, found.name)
            self._pluggy.check_pending()
        except pluggy.PluginValidationError as error:
            if self._pluggy.is_registered(plugin):
                self._pluggy.unregister(plugin)
            raise PluginError(" ".join(str(error).split())) from error
        if not any(self._find(plugin, hook) for hook in HOOKS):
            raise PluginError("it has no hook; is @hookimpl missing?")
        return plugin

    def list_implementations(self, plugin: object) -> Methods:
        """Return a plugin's methods.

        :raises PluginError: for an async hook, and for a hook wrapper, since hooks are called one
            by one here.
        """
        found = {}
        for hook in HOOKS:
            one = self._find(plugin, hook)
            if one is None:
                continue
            if one.wrapper or one.hookwrapper:
                raise PluginError(f"{hook}: wrappers are not supported")
            if inspect.iscoroutinefunction(one.function):
                raise PluginError(
                    f"{hook}: an async function cannot be a hook; "
                    "write a plain one that calls run_async"
                )
            order = one.trylast - one.tryfirst
            found[hook] = (one.function, tuple(one.argnames), order)
        return found

    def call(self, plugin: object, hook: str, **values: Any) -> Any:
        """Call one hook of one plugin, if it has it. Exceptions are not caught."""
        one = self._find(plugin, hook)
        return one and one.function(*[values[name] for name in one.argnames])

    def collect(self, plugin: object, hook: str, kind: type[T]) -> tuple[T, ...]:
        """Return the result of a registering hook.

        :raises PluginError: if the result is not a sequence of ``kind``.
        """
        values = self.call(plugin, hook)
        if values is None:
            return ()
        if not isinstance(values, (list, tuple)):
            raise PluginError(f"{hook} must return a list, not a {type(values).__name__}")
        for one in values:
            if not isinstance(one, kind):
                raise PluginError(
                    f"{hook} must return {kind.__name__} objects; one is a {type(one).__name__}"
                )
        return tuple(values)

    def find_blueprint(self, plugin: object) -> Any:
        """Return a plugin's blueprint, or None if it has none.

        :raises PluginError: if it is not a ``flask.Blueprint``. Only HTTP imports Flask.
        """
        found = self.call(plugin, "register_blueprint")
        kinds = [f"{kind.__module__}.{kind.__name__}" for kind in type(found).__mro__]
        if found is not None and "flask.blueprints.Blueprint" not in kinds:
            raise PluginError(
                f"register_blueprint must return a flask.Blueprint, not a {type(found).__name__}"
            )
        return found

    def _find(self, plugin: object, hook: str) -> pluggy.HookImpl | None:
        caller = getattr(self._pluggy.hook, hook)
        return next((one for one in caller.get_hookimpls() if one.plugin is plugin), None)
