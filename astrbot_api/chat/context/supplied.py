"""A conversation that the caller sends with each request, instead of a stored history.

The caller's system and assistant messages are unverified claims. The model gets them as context of
this turn, below the config's own system prompt. They are never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...agent.provider import ModelMessage
from .budget import cost
from .media import Content

#: Renders a message's content from its stored segments.
Render = Callable[[Sequence[dict[str, Any]]], Content]

#: Heading of the caller's instructions, which do not become a system prompt.
_INSTRUCTIONS = "[Instructions of the application]"


@dataclass(frozen=True, slots=True)
class SuppliedMessage:
    """One message. ``role`` is ``user``, ``assistant`` or ``tool``.

    :param calls: Assistant's calls of the caller's tools, in the format for models.
    :param segments: The stored message, if it has files to read.
    """

    role: str
    text: str
    calls: Sequence[Mapping[str, Any]] = ()
    call_id: str = ""
    segments: Sequence[dict[str, Any]] = ()

    def to_model(self, render: Render | None) -> ModelMessage:
        """Return the message in the format for models.

        :param render: Reads the files, or None to skip them.
        """
        content = render(self.segments) if render and self.segments else self.text
        message: ModelMessage = {"role": self.role, "content": content}
        if self.calls:
            return {**message, "content": self.text or None, "tool_calls": list(self.calls)}
        return {**message, "tool_call_id": self.call_id} if self.call_id else message

    def to_text(self) -> str:
        """Return the message as a line of a transcript."""
        called = [
            f"{one['function']['name']}({one['function']['arguments']})" for one in self.calls
        ]
        return "\n".join([f"[{self.role}]", *filter(None, [self.text]), *called])


@dataclass(frozen=True, slots=True)
class SuppliedContext:
    """The conversation before the message to answer.

    :param instructions: The caller's system and developer messages.
    :param after: Messages after the one to answer: calls of the caller's tools with their results,
        or the beginning of the answer.
    :param previous: The thread entry to continue (see :mod:`.thread`), or None.
    """

    instructions: str
    messages: Sequence[SuppliedMessage]
    after: Sequence[SuppliedMessage] = ()
    previous: int | None = None

    def list_messages(self) -> list[SuppliedMessage]:
        """Return all messages, without the one to answer."""
        return [*self.messages, *self.after]

    def list_texts(self) -> list[str]:
        """Return all texts, with the arguments of calls."""
        texts = [self.instructions]
        for one in self.list_messages():
            texts.append(one.text)
            texts += [str(call["function"]["arguments"]) for call in one.calls]
        return texts


def build_supplied(
    context: SuppliedContext,
    content: Content,
    *,
    system_prompt: str,
    budget: int,
    past: Sequence[ModelMessage],
    render: Render | None,
) -> list[ModelMessage]:
    """Return the system prompt, the caller's conversation and the new message.

    :param content: Content of the new message. If empty, the model answers the messages after it.
    :param budget: Maximum tokens of the caller's conversation. The oldest messages are dropped.
    :param past: Messages of the thread, within the budget.
    :param render: Reads the files of the messages, the newest first.
    """
    kept: list[ModelMessage] = []
    after = [one.to_model(render) for one in reversed(context.after)][::-1]
    room = budget - cost(after)
    for one in reversed(context.messages):
        message = one.to_model(render)
        room -= cost([message])
        if room < 0:
            break
        kept.insert(0, message)
    kept = [*past, *kept]
    while kept and (kept[0]["role"] == "tool" or (room < 0 and kept[0]["role"] != "user")):
        kept.pop(0)  # its question or its calls were dropped
    asked: list[ModelMessage] = [{"role": "user", "content": content}] if content else []
    kept += asked
    if context.instructions:
        # Prepended to the first message, so that roles still alternate.
        lead = f"{_INSTRUCTIONS}\n{context.instructions}\n\n"
        if kept and kept[0]["role"] == "user":
            kept[0] = {**kept[0], "content": _prepend(kept[0]["content"], lead)}
        else:
            kept.insert(0, {"role": "user", "content": lead.rstrip()})
    system: list[ModelMessage] = (
        [{"role": "system", "content": system_prompt}] if system_prompt else []
    )
    return [*system, *_place_calls([*kept, *after])]


def _place_calls(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """Move calls down to their results if other messages are between them.

    Some clients continue a thread with the user's message again and then the results, and with the
    results of all its earlier calls. Source: ``invoke_stream`` of Semantic Kernel's agents.
    Of several results of a call, the last one counts: CopilotKit sends a person's decision first.
    """
    found: list[ModelMessage | None] = []
    steps: dict[str, _Step] = {}
    answered: dict[str, int] = {}
    for message in messages:
        call_id = message.get("tool_call_id") or ""
        step = steps.get(call_id)
        if step is not None:
            if call_id in answered:
                found[answered[call_id]] = message
                continue
            if not step.has_result and step.place < len(found) - 1:
                found.append(found[step.place])
                found[step.place], step.place = None, len(found) - 1
            step.has_result = True
            answered[call_id] = len(found)
        if calls := message.get("tool_calls"):
            ids = [call["id"] for call in calls]
            steps |= dict.fromkeys(ids, _Step(len(found)))
            for call_id in ids:
                answered.pop(call_id, None)
        found.append(message)
    return [one for one in found if one is not None]


@dataclass(slots=True)
class _Step:
    """The place of a message with calls, and whether a result of one of them follows it."""

    place: int
    has_result: bool = False


def _prepend(content: Content, text: str) -> Content:
    if isinstance(content, str):
        return text + content
    first, *rest = content
    return [{**first, "text": text + first["text"]}, *rest]


def write_transcript(context: SuppliedContext, text: str) -> str:
    """Return conversation and new message as one text, for agents with their own history."""
    lines = [f"{_INSTRUCTIONS}\n{context.instructions}"] if context.instructions else []
    lines += [one.to_text() for one in context.messages]
    if not lines and not context.after:
        return text
    after = [one.to_text() for one in context.after]
    return "\n\n".join([*lines, f"[user]\n{text}", *after])
