"""Incoming JSON is limited before it is parsed."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrbot_api.runtime.bounded_json import JsonDepthError, JsonLimitError, load_json

VALUES = st.recursive(
    st.none() | st.integers(0, 9) | st.text(alphabet='",[]{}\\a:é', max_size=12),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=60,
)


def _count(value: object) -> int:
    if isinstance(value, (list, dict)):
        inner = value.values() if isinstance(value, dict) else value
        return len(value) + sum(_count(one) for one in inner)
    return 0


def _depth(value: object) -> int:
    if isinstance(value, (list, dict)):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max((_depth(one) for one in inner), default=0)
    return 0


@given(VALUES)
def test_a_value_within_the_limits_is_read_whatever_its_strings_hold(value: object) -> None:
    members, depth = 2 * _count(value) + 1, max(_depth(value), 1)
    assert load_json(orjson.dumps(value), max_members=members, max_depth=depth) == value


@given(VALUES)
def test_a_value_with_twice_the_members_is_refused(value: object) -> None:
    members = _count(value)
    if members > 1:
        with pytest.raises(JsonLimitError):
            load_json(orjson.dumps(value), max_members=(members - 1) // 2)


@given(VALUES)
def test_a_value_deeper_than_the_limit_is_refused(value: object) -> None:
    depth = _depth(value)
    if depth > 1:
        with pytest.raises(JsonDepthError):
            load_json(orjson.dumps(value), max_depth=depth - 1)


def test_a_long_text_full_of_commas_and_brackets_is_no_list() -> None:
    text = '[,"\\' * 200_000
    assert load_json(orjson.dumps({"message": text})) == {"message": text}


@pytest.mark.parametrize("unit", [b"0,", b'"",', b"[],", b"{},", b'{"a":0},', b'"\\"",'])
def test_a_list_of_millions_is_refused(unit: bytes) -> None:
    with pytest.raises(JsonLimitError, match="more than 50000 members"):
        load_json(b"[" + unit * (4_000_000 // len(unit)) + b"0]")
