"""``astrbot-api doctor``: checks of a server's data and of the services that it uses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    :param state: ``ok``, ``off``, ``warn`` or ``fail``.
    :param remedy: Advice to the operator, or empty if none is needed or the text has it.
    """

    what: str
    state: str
    text: str
    remedy: str = ""
