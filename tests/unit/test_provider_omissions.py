"""Rejected values and tools are remembered up to a number."""

from __future__ import annotations

import pytest

from astrbot_api.providers import omissions


def test_the_number_of_remembered_values_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(omissions, "_MAX_REJECTED", 2)
    known = omissions.Omissions()
    values = [(name, value) for name in "abcd" for value in range(4)]
    for name, value in values:
        assert known.add(name, value)
        assert known.omits(name, value)
    kept = [one for one in values if known.omits(*one)]
    assert kept == [("c", 2), ("c", 3), ("d", 2), ("d", 3)]
