"""What a turn can do beside talking: tools, commands and hooks, from wherever they come."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...agent.aside import AbandonableCalls
from ...agent.provider import Delta, ModelMessage, ModelOptions, Provider, ToolSpec
from ...agent.tool_limits import ToolLimits
from ...agent.tools import Tool, Toolbox
from ...config.agents import AgentConfig
from ...keys.rules import NO_RULES, KeyRules
from ...plugins.commands import Command, CommandContext
from ...plugins.context import TurnContext
from ...plugins.hooks import ConfigPlugins, TurnHooks
from ...plugins.registry import Plugins

log = logging.getLogger(__name__)

#: Further tools of a config, beside those of the application and its plugins.
ExtraTools = Callable[[AgentConfig], Sequence[Tool]]


def no_extra_tools(config: AgentConfig) -> Sequence[Tool]:
    """Return none."""
    return ()


class Abilities:
    """Those of one application.

    :param tools: The application's own; they are offered first and win.
    :param commands: The application's own; they win.
    """

    def __init__(
        self,
        *,
        tools: Sequence[Tool],
        commands: Mapping[str, Command],
        plugins: Plugins,
        extra_tools: ExtraTools = no_extra_tools,
    ) -> None:
        self._tools = tools
        self._commands = commands
        self._plugins = plugins
        self._extra_tools = extra_tools
        self._asides = AbandonableCalls()
        self._left_out: dict[str, tuple[str, ...]] = {}

    def begin_turn(self, config: AgentConfig, context: TurnContext) -> TurnAbilities:
        """Return what a turn of this config can do."""
        chosen = self._plugins.choose(config)
        hooks = chosen.begin_turn(context, self._asides, config.plugins.hook_timeout_s)
        commands = {**chosen.commands, **self._commands}
        return TurnAbilities(config, chosen, hooks, commands, self)

    def make_toolbox(
        self, config: AgentConfig, chosen: ConfigPlugins, rules: KeyRules = NO_RULES
    ) -> Toolbox:
        """Return the tools that a config offers, the application's own first.

        :param rules: Those of the key of the turn.
        Tools that are too many are left out from the end, and logged.
        """
        settings = config.tools
        toolbox = Toolbox(
            (*self._tools, *chosen.tools, *self._extra_tools(config)),
            allow=settings.allow,
            deny=settings.deny,
            approve=(*settings.approve, *(rules.approve or ())),
            key_allow=("*",) if rules.tools is None else rules.tools,
            timeout_s=config.agent.tool_timeout_s,
            max_chars=config.agent.tool_output_chars,
            max_tools=settings.max_tools,
            limits=ToolLimits(
                settings.max_calls,
                settings.max_seconds,
                settings.max_output_chars,
                settings.max_repeats,
            ),
            asides=self._asides,
        )
        self._report_left_out(config, toolbox.left_out)
        return toolbox

    def _report_left_out(self, config: AgentConfig, names: tuple[str, ...]) -> None:
        """Log once which tools of a config are too many."""
        if names and self._left_out.get(config.id) != names:
            log.warning(
                "%s: %d tools are left out, more than [tools] max_tools = %d allows: %s",
                config.path, len(names), config.tools.max_tools, ", ".join(names)[:2000],
            )  # fmt: skip
        self._left_out[config.id] = names

    def run_command(
        self, config: AgentConfig, turn: TurnContext, command: Command, context: CommandContext
    ) -> str:
        """Return a command's answer.

        :raises CallTimedOut: when it takes longer than a tool may.
        :raises RunCancelled: when the turn is cancelled meanwhile.
        """
        return self._asides.run(
            f"the command /{command.name}",
            lambda cancel: command.run(context),
            timeout_s=config.agent.tool_timeout_s,
            cancel=turn.cancel,
        )


@dataclass(frozen=True, slots=True)
class TurnAbilities:
    """Those of one turn."""

    config: AgentConfig
    chosen: ConfigPlugins
    hooks: TurnHooks
    commands: Mapping[str, Command]
    _all: Abilities

    def make_toolbox(self, rules: KeyRules = NO_RULES) -> Toolbox:
        """Return the tools that the model is offered.

        :param rules: Those of the key of the turn.
        """
        return self._all.make_toolbox(self.config, self.chosen, rules)

    def hook_provider(self, provider: Provider) -> Provider:
        """Return the provider with ``before_model`` in front of it."""
        return _HookedProvider(provider, self.hooks)

    def run_command(self, turn: TurnContext, command: Command, context: CommandContext) -> str:
        """Return a command's answer; see :meth:`Abilities.run_command`."""
        return self._all.run_command(self.config, turn, command, context)


@dataclass(frozen=True, slots=True)
class _HookedProvider:
    provider: Provider
    hooks: TurnHooks

    def stream(
        self, messages: Sequence[ModelMessage], tools: Sequence[ToolSpec], options: ModelOptions
    ) -> Iterator[Delta]:
        given = self.hooks.rewrite_messages(messages)
        # Not yield from: a level of generators costs at each switch of a greenlet.
        return self.provider.stream(given, tools, options)
