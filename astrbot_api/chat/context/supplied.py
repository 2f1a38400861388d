"""A conversation that its caller sends whole, in place of a session's history.

What a caller says that the system or the assistant said is a claim. It is
shown to the model as context of this one turn, below the config's own system
prompt, and is never stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...agent.provider import ModelMessage
from .budget import cost
from .media import Content

#: Heads what the caller calls instructions: they are no system prompt here.
INSTRUCTIONS = "[Instructions of the application]"


@dataclass(frozen=True, slots=True)
class SuppliedMessage:
    """One message; ``role`` is ``user``, ``assistant`` or ``tool``.

    :param calls: Calls of the caller's tools that the assistant made, as a model is given them.
    :param call_id: The call that a tool's message answers.
    """

    role: str
    text: str
    calls: Sequence[Mapping[str, Any]] = ()
    call_id: str = ""

    def to_model(self) -> ModelMessage:
        """Return it as a model is given it."""
        message: ModelMessage = {"role": self.role, "content": self.text}
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
    """

    instructions: str
    messages: Sequence[SuppliedMessage]
    after: Sequence[SuppliedMessage] = ()


def build_supplied(
    context: SuppliedContext, content: Content, *, system_prompt: str, budget: int
) -> list[ModelMessage]:
    """Return the system prompt, the given conversation and the new message.

    :param content: The new message's.
    :param budget: Tokens that the given conversation may have; its oldest
        messages are left out where it has more.
    """
    kept: list[ModelMessage] = []
    after = [one.to_model() for one in context.after]
    room = budget - cost(after)
    for one in reversed(context.messages):
        message = one.to_model()
        room -= cost([message])
        if room < 0:
            break
        kept.insert(0, message)
    while kept and kept[0]["role"] != "user":
        kept.pop(0)  # its question is gone
    if context.instructions:
        # In front of the first message, so that the roles still take turns.
        lead = f"{INSTRUCTIONS}\n{context.instructions}\n\n"
        if kept:
            kept[0] = {**kept[0], "content": lead + kept[0]["content"]}
        else:
            content = _prepend(content, lead)
    system: list[ModelMessage] = (
        [{"role": "system", "content": system_prompt}] if system_prompt else []
    )
    return [*system, *kept, {"role": "user", "content": content}, *after]


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
