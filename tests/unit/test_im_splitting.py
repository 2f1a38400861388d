"""Long texts are split at natural places, and no word is lost."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrbot_api.im.rich_text import count_units
from astrbot_api.im.splitting import find_opening, split_markdown

WORDS = st.sampled_from(
    [
        "word ",
        "Ende. ",
        "\n",
        "\n\n",
        "```\n",
        "```py\n",
        "你好。",
        "😀",
        "  indented",
        "x" * 90,
        "|a|b|\n",
        "|-|-|\n",
    ]
)


def _texts(text: str, limit: int) -> list[str]:
    return [piece.text for piece in split_markdown(text, limit)]


def test_a_short_text_is_one_piece() -> None:
    assert _texts("Hello\n\nworld", 200) == ["Hello\n\nworld"]


def test_a_blank_text_is_none() -> None:
    assert _texts(" \n \n", 200) == []


def test_a_text_is_cut_between_paragraphs_first() -> None:
    one, two = "a " * 70, "b " * 70
    assert _texts(f"{one}\n\n{two}", 200) == [one.strip(), two.strip()]
    one, two = "a " * 60, f"{'b ' * 20}\n{'c ' * 60}"
    assert _texts(f"{one}\n\n{two}", 200) == [one.strip(), two.strip()]


def test_then_between_lines_sentences_and_words() -> None:
    assert _texts(f"{'a' * 150}\n{'b' * 150}", 200) == ["a" * 150, "b" * 150]
    assert _texts(f"{'a' * 150}. {'b' * 150}", 200) == ["a" * 150 + ".", "b" * 150]
    assert _texts(f"{'好' * 150}。{'好' * 150}", 200) == ["好" * 150 + "。", "好" * 150]
    assert _texts(f"{'a' * 150} {'b' * 150}", 200) == ["a" * 150, "b" * 150]


def test_a_text_without_any_place_to_cut_is_cut_at_the_limit() -> None:
    assert [len(one) for one in _texts("a" * 450, 200)] == [200, 200, 50]


def test_the_limit_counts_utf16_units() -> None:
    pieces = _texts("😀" * 250, 200)
    assert [count_units(one) for one in pieces] == [200, 200, 100]
    assert "".join(pieces) == "😀" * 250


def test_an_accent_or_a_family_is_not_cut_off() -> None:
    family = "👩\u200d👩\u200d👧"
    for cluster in (family, "e\u0301"):
        text = "x" * (200 - 1) + cluster + "y" * 50
        assert cluster in _texts(text, 200)[1]


def test_a_block_of_code_that_is_cut_is_closed_and_opened_again() -> None:
    lines = "\n".join(f"print({number})" for number in range(40))
    pieces = _texts(f"Here:\n\n```python\n{lines}\n```\n\nThat was it.", 200)
    assert len(pieces) > 2
    for piece in pieces:
        assert len(re.findall(r"^```", piece, re.MULTILINE)) % 2 == 0, piece
        assert count_units(piece) <= 200
    assert all(piece.startswith("```python\n") for piece in pieces[1:-1])
    assert pieces[-1].endswith("That was it.")


def test_a_table_that_is_cut_has_its_head_in_each_piece() -> None:
    rows = [f"| row {number} | {'x' * 20} |" for number in range(40)]
    head = "| name | value |\n|:-----|------:|\n"
    pieces = _texts("Here:\n\n" + head + "\n".join(rows) + "\n\nThat was it.", 300)
    assert len(pieces) > 4
    assert all(piece.startswith(head) for piece in pieces[1:-1])
    assert all(count_units(piece) <= 300 for piece in pieces)
    assert [row for piece in pieces for row in piece.split("\n") if "| row" in row] == rows
    assert pieces[-1].endswith("That was it.")


def test_a_table_within_code_is_code() -> None:
    rows = "\n".join(f"| {number} | {'x' * 20} |" for number in range(20))
    pieces = _texts(f"```\n| a | b |\n|---|---|\n{rows}\n```", 200)
    assert all(piece.count("```") == 2 for piece in pieces)
    assert sum("|---|" in piece for piece in pieces) == 1


def test_heads_of_tables_are_found_in_time() -> None:
    assert split_markdown("|-" * 100_000, 4096)
    assert split_markdown("|-\n" * 60_000, 4096)


@pytest.mark.parametrize(
    ("text", "opening"),
    [
        ("a\n```py\nb\nc\n```\nd", "```py\n"),
        ("a\n\n| x |\n|---|\n| b |\n| c |\n", "| x |\n|---|\n"),
        ("a\n\nc", ""),
        ("```\nb\n```\nc", ""),
    ],
)
def test_the_rest_of_a_block_is_opened_again(text: str, opening: str) -> None:
    at = text.index("| c" if "| c" in text else "c")
    assert find_opening(text, at) == opening


def test_a_block_of_code_begins_its_own_piece_rather_than_being_cut() -> None:
    code = "```\n" + "c" * 100 + "\n```"
    assert _texts("a" * 120 + "\n" + code, 200) == ["a" * 120, code]


@settings(max_examples=300)
@given(st.lists(WORDS, max_size=120).map("".join))
def test_pieces_fit_and_their_lengths_add_up(text: str) -> None:
    pieces = split_markdown(text, 200)
    assert all(piece.text.strip() and count_units(piece.text) <= 200 for piece in pieces)
    assert sum(piece.chars for piece in pieces) == (len(text) if text.strip() else 0)
    starts = itertools.accumulate((piece.chars for piece in pieces), initial=0)
    shown = "".join(
        piece.text.removeprefix(find_opening(text, at))  # the repeated head of a table
        for piece, at in zip(pieces, starts, strict=False)
    )
    # Compare characters without fence marks, because a long line may be split within a word.
    kept = [re.sub(r"[`py\s]", "", part) for part in (text, shown)]
    assert kept[0] == kept[1]


def test_the_rest_after_a_piece_is_what_was_not_sent() -> None:
    text = "\n\n".join(f"Paragraph {number}. " + "word " * 20 for number in range(10))
    first, *rest = split_markdown(text, 200)
    again = split_markdown(text[first.chars :], 200)
    assert [piece.text for piece in again] == [piece.text for piece in rest]


SIZE = 200_000


@pytest.mark.timeout(20)  # takes less than a second, but minutes with backtracking
@pytest.mark.parametrize(
    "text",
    [
        "~" * SIZE + "`",
        "```" + " " * SIZE + "`",
        "`" * SIZE,
        "." * SIZE,
        "```\n```\n" * (SIZE // 8),
        "```x\n\n" * (SIZE // 6),
        " " * SIZE + "x",
        "\u0301" * SIZE,
        "\n" * SIZE + "x",
    ],
    ids=["tildes", "blanks", "backticks", "dots", "blocks", "open", "space", "accents", "lines"],
)
def test_no_text_takes_more_than_seconds(text: str) -> None:
    pieces = split_markdown(text, 200)
    assert sum(piece.chars for piece in pieces) == len(text)
