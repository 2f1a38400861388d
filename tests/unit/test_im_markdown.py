"""Markdown of models is parsed as intended, without losing text."""

from __future__ import annotations

import pytest
from markdown_it.ruler import Ruler

from astrbot_api.im import markdown
from astrbot_api.im.markdown import read_markdown


def _marked(text: str) -> list[tuple[str, str]]:
    rich = read_markdown(text)
    return [(one.kind, rich.text[one.start : one.stop]) for one in rich.spans]


def test_bold_italic_strike_code_and_links_are_ranges() -> None:
    rich = read_markdown("**a** _b_ ~~c~~ `d` [e](https://x.y/)")
    assert rich.text == "a b c d e"
    assert [(x.kind, x.start, x.stop, x.value) for x in rich.spans] == [
        ("bold", 0, 1, ""),
        ("italic", 2, 3, ""),
        ("strike", 4, 5, ""),
        ("link", 8, 9, "https://x.y/"),
        ("code", 6, 7, ""),
    ]
    assert rich.to_plain() == "a b c d e (https://x.y/)"


def test_the_rules_are_complete_before_threads_share_the_parser(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    markdown._parser.cache_clear()
    markdown._parser()
    compiled: list[Ruler] = []
    monkeypatch.setattr(Ruler, "__compile__", lambda ruler: compiled.append(ruler))
    read_markdown("> **a** ~~b~~\n\n- c")
    assert not compiled


def test_a_heading_is_bold_and_a_quote_is_a_quote() -> None:
    assert _marked("# Title\n\n> said") == [("bold", "Title"), ("quote", "said")]


def test_lists_keep_their_numbers_and_their_depth() -> None:
    text = "3. three\n4. four\n   - inner\n\nafter"
    assert read_markdown(text).text == "3. three\n4. four\n   • inner\n\nafter"


def test_code_blocks_keep_every_space_and_their_language() -> None:
    rich = read_markdown("```python\ndef f():\n\n    return '**'\n```")
    assert rich.text == "def f():\n\n    return '**'"
    assert [(x.kind, x.value) for x in rich.spans] == [("pre", "python")]


@pytest.mark.parametrize(
    ("text", "shown", "marked"),
    [
        ("**注意：**请先备份", "注意：请先备份", ("bold", "注意：")),
        ("- **用法：**运行", "• 用法：运行", ("bold", "用法：")),
        ("这是**“重点”**内容", "这是“重点”内容", ("bold", "“重点”")),
        ("优惠**100%**以上", "优惠100%以上", ("bold", "100%")),
        ("**‘단어’**는", "‘단어’는", ("bold", "‘단어’")),
        ("~~旧版。~~新版", "旧版。新版", ("strike", "旧版。")),
    ],
)
def test_marks_beside_punctuation_are_read_in_scripts_without_spaces(
    text: str, shown: str, marked: tuple[str, str]
) -> None:
    assert read_markdown(text).text == shown
    assert _marked(text) == [marked]


def test_nothing_is_formatted_within_code() -> None:
    assert _marked("**bold `code` bold**") == [
        ("bold", "bold "),
        ("bold", " bold"),
        ("code", "code"),
    ]


def test_a_table_is_laid_out_in_columns_also_with_wide_letters() -> None:
    rich = read_markdown("| a | b |\n|---|---|\n| 你好 | **x** |")
    assert rich.text == "a    | b\n-----+--\n你好 | x"
    assert [one.kind for one in rich.spans] == ["pre"]


def test_a_long_cell_does_not_multiply_a_table() -> None:
    rows = "".join(f"| {number} | b |\n" for number in range(60))
    text = f"| a | b |\n|---|---|\n| {'long ' * 300}| b |\n{rows}"
    assert len(read_markdown(text).text) < 3 * len(text)


def test_a_cell_of_a_table_may_have_several_lines() -> None:
    rich = read_markdown("| a<br>b | c |\n|---|---|\n| 1. x <br/>2. y | `<br>` |\n|  |  |\n| z | |")
    assert [line.rstrip() for line in rich.text.split("\n")] == [
        "a    | c", "b    |", "-----+-----", "1. x | <br>", "2. y |", "     |", "z    |",
    ]  # fmt: skip


@pytest.mark.parametrize("before", ["", "> ", "  "])
def test_a_row_with_more_cells_than_the_head_keeps_them(before: str) -> None:
    lines = [
        "| a | b |",
        "|---|---|",
        "| or | `x || y` |",
        "| 1 | 2 | 3 |",
        "| 4 | 5 \\| 6 |",
        "| 7 |",
    ]
    rich = read_markdown("- x\n" * (before == "  ") + "\n".join(before + one for one in lines))
    shown = [" ".join(line.split()) for line in rich.text.splitlines()]
    assert shown[-4:] == ["or | `x | | y`", "1 | 2 | 3", "4 | 5 | 6", "7 |"]


def test_a_link_in_a_table_keeps_its_address() -> None:
    rich = read_markdown("| a |\n|---|\n| [x](https://x.y/) ![p](https://x.y/p) |")
    assert rich.text.splitlines()[-1] == "x (https://x.y/) p (https://x.y/p)"


def test_links_that_are_shown_move_the_other_ranges() -> None:
    rich = read_markdown("**[a](/a)** _b_ [c](/c)[d](https://x.y/) `e`")
    shown = rich.show_links(lambda address: address.startswith("https:"))
    assert shown.text == "a (/a) b c (/c)d e"
    assert sorted((one.kind, shown.text[one.start : one.stop]) for one in shown.spans) == [
        ("bold", "a (/a)"), ("code", "e"), ("italic", "b"), ("link", "d"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "<b>no</b> <script>",
        "2*3*4 and a_b_c",
        "[foo]: http://x.y",
        "x < y & z > w",
        "*.py and *.txt",
        "请看*.py和*.txt",
        "注意 ** 正文 ** 结束",
        "**not closed",
        "$ price: 5$ _",
        "/help",
    ],
)
def test_what_is_no_markup_stays_as_it_is(text: str) -> None:
    assert read_markdown(text).text == text
    assert read_markdown(text).spans == ()


def test_a_link_to_a_script_is_no_link() -> None:
    assert _marked("[x](javascript:alert(1))") == []


def test_deep_nesting_and_very_long_texts_are_read_in_time() -> None:
    assert read_markdown(">" * 5000 + "x").text == ">" * 5000 + "x"
    assert read_markdown("[" * 50_000).text
    assert read_markdown("**a** " * 50_000).spans == ()
