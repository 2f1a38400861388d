"""A conversation that its caller sends whole, in place of a session's history.

What a caller says that the system or the assistant said is a claim. It is
shown to the model as context of this one turn, below the config's own system
prompt, and is never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...agent.provider import ModelMessage
from .budget import cost
from .media import Content

#: Makes a message's content of its stored segments.
Render = Callable[[Sequence[dict[str, Any]]], Content]

#: Heads what the caller calls instructions: they are no system prompt here.
INSTRUCTIONS = "[Instructions of the application]"


@dataclass(frozen=True, slots=True)
class SuppliedMessage:
    """One message; ``role`` is ``user``, ``assistant`` or ``tool``.

    :param calls: Calls of the caller's tools that the assistant made, as a model is given them.
    :param call_id: The call that a tool's message answers.
    :param segments: The message as it is stored, where it has files that are to be read.
    """

    role: str
    text: str
    calls: Sequence[Mapping[str, Any]] = ()
    call_id: str = ""
    segments: Sequence[dict[str, Any]] = ()

    def to_model(self, render: Render | None = None) -> ModelMessage:
        """Return it as a model is given it.

        :param render: Reads the files; None: they are left out.
        """
        content = render(self.segments) if render and self.segments else self.text
        message: ModelMessage = {"role": self.role, "content": content}
        if self.calls:
            return {**message, "content": self.text or None, "tool_calls": list(self.calls)}
        return {**message, "tool_call_id": self.call_id} if self.call_id else message

    def to_text(self) -> str:
        """Return it as a part of a transcript."""
        called = [
            f"{one['function']['name']}({one['function']['arguments']})" for one in self.calls
        ]
        return "\n".join([f"[{self.role}]", *filter(None, [self.text]), *called])


@dataclass(frozen=True, slots=True)
class SuppliedContext:
    """What was said before the message that is to be answered.

    :param instructions: What the caller sent as system or developer messages.
    :param after: What was said since that message: calls of the caller's tools and their results,
        or the beginning of the answer.
    :param previous: The entry of a thread that it goes on from (see :mod:`.thread`); None: of none.
    """

    instructions: str
    messages: Sequence[SuppliedMessage]
    after: Sequence[SuppliedMessage] = ()
    previous: int | None = None


def build_supplied(
    context: SuppliedContext,
    content: Content,
    *,
    system_prompt: str,
    budget: int,
    past: Sequence[ModelMessage] = (),
    render: Render | None = None,
) -> list[ModelMessage]:
    """Return the system prompt, the given conversation and the new message.

    :param content: The new message's; empty: there is none, and what follows it is answered.
    :param budget: Tokens that the given conversation may have; its oldest
        messages are left out where it has more.
    :param past: What its thread holds, within the budget.
    :param render: Reads the files of its messages.
    """
    kept: list[ModelMessage] = []
    after = [one.to_model() for one in context.after]
    room = budget - cost(after)
    for one in reversed(context.messages):
        message = one.to_model(render)
        room -= cost([message])
        if room < 0:
            break
        kept.insert(0, message)
    kept = [*past, *kept]
    while kept and kept[0]["role"] != "user":
        kept.pop(0)  # its question is gone
    asked: list[ModelMessage] = [{"role": "user", "content": content}] if content else []
    kept += asked
    if context.instructions:
        # In front of the first message, so that the roles still take turns.
        lead = f"{INSTRUCTIONS}\n{context.instructions}\n\n"
        if kept:
            kept[0] = {**kept[0], "content": _prepend(kept[0]["content"], lead)}
        else:
            kept = [{"role": "user", "content": lead.rstrip()}]
    system: list[ModelMessage] = (
        [{"role": "system", "content": system_prompt}] if system_prompt else []
    )
    return [*system, *kept, *after]


def _prepend(content: Content, text: str) -> Content:
    if isinstance(content, str):
        return text + content
    first, *rest = content
    return [{**first, "text": text + first["text"]}, *rest]


def write_transcript(context: SuppliedContext, text: str) -> str:
    """Return the given conversation and the new message as one text, for who keeps its own history.

    :param text: The new message's.
    """
    lines = [f"{INSTRUCTIONS}\n{context.instructions}"] if context.instructions else []
    lines += [one.to_text() for one in context.messages]
    if not lines and not context.after:
        return text
    after = [one.to_text() for one in context.after]
    return "\n\n".join([*lines, f"[user]\n{text}", *after])
