"""The built-in tools."""

from __future__ import annotations

import time
from typing import Any

import pytest

from astrbot_api import Cancellation, Tool, ToolAttachment, ToolContext, ToolError
from astrbot_api.plugins.builtin.attachments import read_attachment
from astrbot_api.plugins.builtin.basics import current_time
from astrbot_api.plugins.builtin.calculator import calculate


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("(2 + 3) * 4 ** 2", "80"),
        ("-7 // 2", "-4"),
        ("10 % 4 + 1 / 4", "2.25"),
        ("sqrt(16) + abs(-2)", "6.0"),
        ("round(pi, 4)", "3.1416"),
        ("round(2.5)", "2"),
        ("max(1, 2, 3) - min(4, 5)", "-1"),
        ("factorial(40 / 2)", "2432902008176640000"),
        ("2 ** 100", "1267650600228229401496703205376"),
        ("3 > 2 and 1 == 1.0", "true"),
        ("1 if 2 > 3 else 5", "5"),
        (" 1e3 ", "1000.0"),
        ("1 ** 999999999 + (-1) ** 999999999 + 0 ** 999999999", "0"),
        ("2 ** 8191 // 2 ** 8190 + 3 ** 5000 % 10", "3"),
        ("+".join(["1"] * 250), "250"),
        ("1.5 ** 2 + 4 ** 0.5", "4.25"),
    ],
)
def test_calculate_knows_arithmetic(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "9 ** 9 ** 9",
        "9 ** 999999999",
        "(10 ** 2000) ** 1000",
        "(2 ** 8000) * (2 ** 8000)",
        "4000000 ** 4000000",
        "2 ** 8192",
        "9999 << 8192",
        "factorial(100000)",
        "factorial(2.5)",
        "round(5, -1000000000)",
        "1 << 1000000000",
        "(-8) ** 0.5",
        "1 / 0",
        "'a' * 1000000000",
        "b'a' * 10",
        "[1] * 1000000000",
        "[x for x in range(10)]",
        "().__class__",
        "abs.__self__",
        "__import__('os').system('true')",
        "open('/etc/passwd')",
        "lambda: 1",
        "f'{1}'",
        "x = 1",
        "1; 2",
        "unknown",
        "abs",
        "",
        "1 +",
        "(" * 400 + "1" + ")" * 400,
        "-" * 499 + "1" + "2",
        "1" * 501,
        "float('inf')",
        "1j",
    ],
)
def test_calculate_refuses_what_is_endless_or_no_arithmetic(expression: str) -> None:
    started = time.monotonic()
    with pytest.raises(ToolError):
        calculate(expression)
    # A generous limit: without bounds, each of these would take minutes or never end.
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("expression", ["'a'", "b'a' * 2", "1j", "None", "..."])
def test_calculate_takes_nothing_but_numbers(expression: str) -> None:
    with pytest.raises(ToolError, match="only numbers can be calculated with"):
        calculate(expression)


def test_the_time_is_that_of_a_zone() -> None:
    said = current_time.call({"timezone": "Asia/Shanghai"}, context())
    assert "+08:00 (" in said
    assert said.endswith("day, CST)")
    for wrong in ("../etc/passwd", "Europe"):
        with pytest.raises(ToolError, match=f"no time zone {wrong}"):
            current_time.call({"timezone": wrong}, context())
    assert "T" in current_time.call({}, context())


def context(*attachments: ToolAttachment, **settings: Any) -> ToolContext:
    return ToolContext(
        "alice", "s", "default", Cancellation(), attachments=attachments, settings=settings
    )


def attach(name: str, data: bytes, mime: str = "text/plain") -> ToolAttachment:
    return ToolAttachment(f"id-{name}", name, "file", mime, len(data), lambda limit: data[:limit])


def read(*attachments: ToolAttachment, **arguments: Any) -> str:
    told: str = read_attachment.call(arguments, context(*attachments))
    return told


def test_a_text_file_is_read_by_name_by_id_or_as_the_only_one() -> None:
    one, two = attach("a.txt", "grün".encode()), attach("b.json", b'{"b":1}', "application/json")
    assert read(one) == "grün"
    assert read(one, two, name="b.json") == '{"b":1}'
    assert read(one, two, name="id-a.txt") == "grün"
    assert read(attach("c.txt", "\ufeffüber".encode("utf-16"))) == "\ufeffüber"
    with pytest.raises(ToolError, match=r"the files are: a.txt, b.json"):
        read(one, two, name="c")
    with pytest.raises(ToolError, match=r"the files are: a.txt, b.json"):
        read(one, two)
    with pytest.raises(ToolError, match=r"the files are: a.txt$"):
        read(one, name="c")
    with pytest.raises(ToolError, match="has sent no file"):
        read()


def test_a_long_file_is_read_piece_by_piece() -> None:
    long = attach("a.txt", b"x" * 20_000 + b"END")
    first = read(long)
    assert first.endswith("[characters 0 to 16000 of 20003; continue with offset=16000]")
    assert read(long, offset=16_000).endswith("xEND")
    with pytest.raises(ToolError, match="has 20003 characters"):
        read(long, offset=20_004)


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 10, "image/png"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 10, "text/plain"),
        (bytes(1000), "application/octet-stream"),
    ],
)
def test_what_is_no_text_is_not_read(data: bytes, mime: str) -> None:
    with pytest.raises(ToolError, match="is not a text"):
        read(attach("a", data, mime))


def test_every_built_in_tool_is_described_for_the_model() -> None:
    from astrbot_api.plugins.builtin import BUILT_IN_PLUGINS
    from astrbot_api.testing.plugins import list_tools

    tools: list[Tool] = []
    for kind in BUILT_IN_PLUGINS:
        tools += list_tools(kind()).values()
    assert len(tools) == 8
    for one in tools:
        for name, schema in one.parameters["properties"].items():
            assert schema.get("description"), f"{one.name}: {name}"
