"""What a model must be able to do, and the values that it yields.

An author's whole job is one method, :meth:`Provider.stream`. Messages and
tool descriptions have the shape of OpenAI's chat completions (Source:
https://platform.openai.com/docs/api-reference/chat/create), because every
endpoint in use speaks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .cancel import Cancellation

#: ``{"role": "system"|"user"|"assistant"|"tool", "content": …}`` and, for
#: tools, ``tool_calls`` and ``tool_call_id``. ``attached`` of an assistant's is what its
#: provider attached (:attr:`Finished.attached`): it goes back to that provider alone.
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
class Rewind:
    """The last so many characters of the answer's text were not part of it after all.

    Models are heard to end their thinking that never said where they begin it.
    """

    chars: int


@dataclass(frozen=True, slots=True)
class MediaDelta:
    """A picture or a sound that the model made, whole.

    :param filename: With the ending of its format.
    """

    data: bytes = field(repr=False)
    filename: str


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


@dataclass(frozen=True, slots=True)
class Finished:
    """One model call is over, and this is how.

    :param reason: ``stop``, ``length``, ``tool_calls``, ``content_filter`` or what else the
        endpoint said; empty: it did not say.
    :param provider: Id of the provider that answered; ``model`` as it named its model.
    :param attached: JSON that goes back with this step's message, to the same provider alone.
    """

    reason: str = ""
    provider: str = ""
    model: str = ""
    attached: Mapping[str, Any] = field(default_factory=dict, repr=False)


Delta = TextDelta | ReasoningDelta | Rewind | MediaDelta | ToolCallDelta | Usage | Finished


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


def read_text(deltas: Iterable[Delta], max_chars: int) -> str:
    """Return the text of an answer, read until it has more than so many characters."""
    said = ""
    for delta in deltas:
        if isinstance(delta, TextDelta):
            said += delta.text
        elif isinstance(delta, Rewind):
            said = said[: len(said) - delta.chars]
        if len(said) > max_chars:
            break
    return said
