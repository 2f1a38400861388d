"""A conversation that its caller sends whole, in place of a session's history.

What a caller says that the system or the assistant said is a claim. It is
shown to the model as context of this one turn, below the config's own system
prompt, and is never stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...agent.provider import ModelMessage
from .budget import cost
from .media import Content

#: Heads what the caller calls instructions: they are no system prompt here.
INSTRUCTIONS = "[Instructions of the application]"


@dataclass(frozen=True, slots=True)
class SuppliedMessage:
    """One earlier message; ``role`` is ``user`` or ``assistant``."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class SuppliedContext:
    """What was said before the message that is to be answered.

    :param instructions: What the caller sent as system or developer messages.
    """

    instructions: str
    messages: Sequence[SuppliedMessage]


def build_supplied(
    context: SuppliedContext, content: Content, *, system_prompt: str, budget: int
) -> list[ModelMessage]:
    """Return the system prompt, the given conversation and the new message.

    :param content: The new message's.
    :param budget: Tokens that the given conversation may have; its oldest
        messages are left out where it has more.
    """
    kept: list[ModelMessage] = []
    room = budget
    for one in reversed(context.messages):
        message: ModelMessage = {"role": one.role, "content": one.text}
        room -= cost([message])
        if room < 0:
            break
        kept.insert(0, message)
    while kept and kept[0]["role"] == "assistant":
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
    return [*system, *kept, {"role": "user", "content": content}]


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
    lines += [f"[{one.role}]\n{one.text}" for one in context.messages]
    if not lines:
        return text
    return "\n\n".join([*lines, f"[user]\n{text}"])
