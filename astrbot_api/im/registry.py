"""The adapter types. Their modules and SDKs are imported on first use."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, cast

from ..errors import SettingsError

if TYPE_CHECKING:
    from .adapter import AdapterModule

#: Types in ``bots.toml``, each a module of this package.
_MODULES = ("telegram", "onebot", "slack", "webhook", "apprise", "astrbot")


class AdapterTypes:
    """The bot types of one application.

    :param extra: An embedder's adapters by type. They override the built-in ones.
    """

    def __init__(self, extra: Mapping[str, AdapterModule] | None = None) -> None:
        self._extra = dict(extra or {})

    def load(self, type: str) -> AdapterModule:
        """Return the module of a type.

        :raises SettingsError: if the type is unknown or its SDK is not installed.
        """
        if type in self._extra:
            return self._extra[type]
        if type not in _MODULES:
            known = ", ".join(sorted({*_MODULES, *self._extra}))
            raise SettingsError(f"unknown type {type!r}; use one of {known}")
        try:
            module = import_module(f".{type}", __package__)
        except ImportError as error:
            raise SettingsError(
                f"type {type} needs a package that is not installed ({error.name}): "
                "pip install 'astrbot-api[im]'"
            ) from error
        return cast("AdapterModule", module)
