"""Questions to the model beside the turn's own: for a title, or for a summary."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

import peewee

from ...agent.provider import ModelMessage, ModelOptions, Provider, Rewind, TextDelta, Usage
from ...db import key_usage
from ...db.store import Store
from ...errors import AstrBotError
from .budget import cost, estimate_tokens

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks a config's model, and counts the tokens for the keys of the turn that caused it.

    :param options: Model and cancellation.
    :param keys: The turn's :attr:`~astrbot_api.chat.turns.turn.TurnRequest.counting_keys`.
    """

    provider: Provider
    options: ModelOptions
    keys: Collection[str]

    def ask(self, store: Store, instruction: str, quoted: str, max_chars: int) -> str:
        """Return the answer, cut off after ``max_chars`` characters.

        :raises AstrBotError: if the model fails.
        :raises RunCancelled: if the turn is cancelled meanwhile.
        """
        messages: list[ModelMessage] = [
            {"role": "system", "content": instruction},
            {"role": "user", "content": quoted},
        ]
        said, used = "", Usage()
        try:
            for delta in self.provider.stream(messages, [], self.options):
                if isinstance(delta, TextDelta):
                    said += delta.text
                elif isinstance(delta, Rewind):
                    said = said[: len(said) - delta.chars]
                elif isinstance(delta, Usage):
                    used += delta
                if len(said) > max_chars:
                    break
        finally:
            if used == Usage() and said:  # the model reported none
                used = Usage(cost(messages), 0, estimate_tokens(said))
            if used != Usage():
                self._count(store, used)
        return said

    def _count(self, store: Store, used: Usage) -> None:
        def add(db: peewee.Database) -> None:
            key_usage.add_tokens(db, self.keys, used.input_other + used.input_cached, used.output)

        try:
            store.write(add, quick=True)
        except AstrBotError as error:
            log.warning("the tokens of a title or summary were not counted: %s", error)
