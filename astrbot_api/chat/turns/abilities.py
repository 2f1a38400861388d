"""Tools, commands and hooks of a turn, from the application, plugins and MCP servers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ...agent.abandonable import AbandonableCalls
from ...agent.provider import Delta, ModelMessage, ModelOptions, Provider, ToolSpec
from ...agent.toolbox import Toolbox, is_allowed
from ...agent.tools import Tool
from ...config.agents import AgentConfig, ToolSettings
from ...errors import ToolError
from ...keys.rules import NO_RULES, KeyRules
from ...mcp.prompts import Prompt
from ...plugins.commands import AskModel, Command, CommandContext, asks_to_stop, find_command
from ...plugins.context import TurnContext
from ...plugins.hooks import ConfigPlugins, TurnHooks
from ...plugins.registry import Plugins

log = logging.getLogger(__name__)

#: Returns further tools of a config, such as those of its MCP servers.
ExtraTools = Callable[[AgentConfig], Sequence[Tool]]

#: Returns the prompts of a config's MCP servers. Other commands take precedence.
ListPrompts = Callable[[AgentConfig], Sequence[Prompt]]


class Abilities:
    """Tools, commands and hooks of one application.

    :param tools: The application's own tools. They are offered first and take precedence.
    :param commands: The application's own commands. They take precedence.
    """

    def __init__(
        self,
        *,
        tools: Sequence[Tool],
        commands: Mapping[str, Command],
        plugins: Plugins,
        extra_tools: ExtraTools,
        list_prompts: ListPrompts,
    ) -> None:
        self._tools = tools
        self._commands = commands
        self._plugins = plugins
        self._extra_tools = extra_tools
        self._list_prompts = list_prompts
        self._asides = AbandonableCalls()
        self._left_out: dict[str, tuple[str, ...]] = {}

    def begin_turn(
        self, config: AgentConfig, context: TurnContext, rules: KeyRules = NO_RULES
    ) -> TurnAbilities:
        """Return the abilities of a turn with this config."""
        chosen = self._plugins.choose(config)
        hooks = TurnHooks(
            chosen.implementations, context, self._asides, config.plugins.hook_timeout_s
        )
        commands = {
            **self._make_prompt_commands(config, rules),
            **chosen.commands,
            **self._commands,
        }
        make_toolbox = partial(self._make_toolbox, config, chosen, rules)
        return TurnAbilities(hooks, commands, make_toolbox, self._asides)

    def stops_earlier(self, config: AgentConfig, text: str) -> bool:
        """Return whether a message stops the earlier turns of its session."""
        if asks_to_stop(text):
            return True
        commands = {**self._plugins.choose(config).commands, **self._commands}
        command, _ = find_command(commands, text)
        return command is not None and command.stops_earlier

    def _make_prompt_commands(self, config: AgentConfig, rules: KeyRules) -> Mapping[str, Command]:
        """Return commands for the prompts that the config and the key allow."""
        tools = config.tools
        allow = ("*",) if rules.tools is None else rules.tools
        return {
            one.name: _make_prompt_command(one)
            for one in self._list_prompts(config)
            if is_allowed(one.name, tools.allow, tools.deny, allow)
        }

    def _make_toolbox(
        self, config: AgentConfig, chosen: ConfigPlugins, rules: KeyRules = NO_RULES
    ) -> Toolbox:
        """Return the tools that a config and a key allow, the application's own first.

        Tools beyond the limit are dropped from the end and logged.
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
            limits=_limit(settings, rules),
            asides=self._asides,
        )
        self._report_left_out(config, toolbox.left_out)
        return toolbox

    def list_left_out(self, config: AgentConfig) -> tuple[str, ...]:
        """Return the names of a config's tools that exceed its limit."""
        return self._make_toolbox(config, self._plugins.choose(config)).left_out

    def _report_left_out(self, config: AgentConfig, names: tuple[str, ...]) -> None:
        """Log once which tools of a config exceed its limit."""
        if names and self._left_out.get(config.id) != names:
            log.warning(
                "%s: %d tools are not offered, [tools] max_tools = %d: %s",
                config.path, len(names), config.tools.max_tools, ", ".join(names)[:2000],
            )  # fmt: skip
        self._left_out[config.id] = names


@dataclass(frozen=True, slots=True)
class TurnAbilities:
    """Tools, commands and hooks of one turn.

    :param make_toolbox: Returns the tools to offer to the model.
    :param asides: Runs the commands.
    """

    hooks: TurnHooks
    commands: Mapping[str, Command]
    make_toolbox: Callable[[], Toolbox]
    asides: AbandonableCalls


def _make_prompt_command(prompt: Prompt) -> Command:
    """Return a command that sends a prompt of an MCP server to the model."""

    def run(context: CommandContext) -> str | AskModel:
        try:
            return AskModel(prompt.fill(context.arguments, context.cancel))
        except ToolError as error:
            return str(error)

    # Fetching a prompt has no side effects.
    return Command(prompt.name, prompt.help, run, resumable=True)


def _limit(settings: ToolSettings, rules: KeyRules) -> ToolSettings:
    """Return the limits of a turn, the lower of the config's and the key's."""
    if rules is NO_RULES:
        return settings
    pairs = (
        (settings.max_calls, rules.tool_calls_per_turn),
        (settings.max_seconds, rules.tool_seconds_per_turn),
        (settings.max_output_chars, rules.tool_chars_per_turn),
    )
    calls, seconds, chars = (own if more is None else min(own, more) for own, more in pairs)
    return replace(settings, max_calls=int(calls), max_seconds=seconds, max_output_chars=int(chars))


@dataclass(frozen=True, slots=True)
class HookedProvider:
    """Runs the hook ``before_model`` before each request to a model."""

    provider: Provider
    hooks: TurnHooks

    def stream(
        self, messages: Sequence[ModelMessage], tools: Sequence[ToolSpec], options: ModelOptions
    ) -> Iterator[Delta]:
        given = self.hooks.rewrite_messages(messages)
        # Not `yield from`, since each level of generators slows a greenlet switch.
        return self.provider.stream(given, tools, options)
