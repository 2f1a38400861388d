"""Names that look like an administrator's are reserved, too."""

from __future__ import annotations

import pytest

from astrbot_api.keys.caller import is_reserved


@pytest.mark.parametrize(
    "name",
    [
        "astrbot", "Astrbot", "ASTRBOT", "ａｓｔｒｂｏｔ", "astr\u200bbot", "astrbot\u00ad",
        "astrbot\ufe0f", "astr bot", "\u202eastrbot", "a\u034fstrbot", " astrbot ",
        "\u0430strb\u043et", "\u0410STR\u0412\u041e\u0422", "astrb\u03bft", "a\u0301strbot",
        "\u00e1strb\u00f6t", "\u0251strbot",
    ],
)  # fmt: skip
def test_a_name_that_looks_the_same_is_reserved(name: str) -> None:
    assert is_reserved(name, ("astrbot",))


@pytest.mark.parametrize("name", ["astrbots", "alice", "张三", "astr-bot", "Анна", "Νίκος"])
def test_another_name_is_free(name: str) -> None:
    assert not is_reserved(name, ("astrbot",))
