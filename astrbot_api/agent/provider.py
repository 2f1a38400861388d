"""What a model must be able to do, and the values that it yields.

An author's whole job is one method, :meth:`Provider.stream`. Messages and
tool descriptions have the shape of OpenAI's chat completions (Source:
https://platform.openai.com/docs/api-reference/chat/create), because every
endpoint in use speaks it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .cancel import Cancellation

#: ``{"role": "system"|"user"|"assistant"|"tool", "content": …}`` and, for
#: tools, ``tool_calls`` and ``tool_call_id``.
ModelMessage = dict[str, Any]

#: ``{"type": "function", "function": {"name", "description", "parameters"}}``.
ToolSpec = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer, to append."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the thinking, to append."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call. Pieces of one ``index`` belong together.

    :param index: Position of the call among the calls of this step.
    :param id: The call's id; empty when an earlier piece gave it.
    :param name: The tool's name; empty when an earlier piece gave it.
    :param arguments: A piece of the JSON text of the arguments.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that one model call used.

    :param input_other: Prompt tokens that were not served from a cache.
    :param input_cached: Prompt tokens that were.
    :param output: Completion tokens.
    """

    input_other: int = 0
    input_cached: int = 0
    output: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_other + other.input_other,
            self.input_cached + other.input_cached,
            self.output + other.output,
        )


Delta = TextDelta | ReasoningDelta | ToolCallDelta | Usage


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What one call may set beside its messages.

    :param model: Model name; empty: the provider's own choice.
    :param cancel: Breaks the call off: the provider must close its
        connection and raise :class:`~astrbot_api.errors.RunCancelled`.
    :param extra: Further fields of the request body (``temperature``, …).
    :param headers: Further headers of the request (``traceparent``).
    """

    cancel: Cancellation
    model: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class Provider(Protocol):
    """A model, wherever it runs."""

    def stream(
        self,
        messages: Sequence[ModelMessage],
        tools: Sequence[ToolSpec],
        options: ModelOptions,
    ) -> Iterator[Delta]:
        """Ask the model once and yield its answer as it comes.

        Blocking is fine: it is called in a thread of its own (a greenlet
        under gevent). Closing the generator must close the connection.

        :raises ProviderError: when the model cannot be reached, refuses or
            breaks off.
        :raises RunCancelled: when ``options.cancel`` fires.
        """
        ...
