"""Text that a client cannot take back goes on where its run says the same once more."""

from __future__ import annotations

import pytest

from astrbot_api import events
from astrbot_api.events import encode_event
from astrbot_api.http.continuing import ContinuedText
from astrbot_api.http.openai.rendering import Completion


def play(kept: str, again: list[str]) -> tuple[str, bool]:
    """Return what a client has in the end, and whether that is the answer."""
    text = ContinuedText()
    text.take_back(kept)
    shown, said = kept, ""
    for piece in again:
        said += piece
        shown += text.add(piece, said)
    return shown, text.is_whole()


@pytest.mark.parametrize(
    ("again", "expected"),
    [
        (["Hello", " world", "!"], ("Hello world!", True)),
        (["Hel", "lo wo", "rld!"], ("Hello world!", True)),
        (["Hello wor"], ("Hello wor", True)),
        (["Hello"], ("Hello wor", False)),
        (["Hi", " there"], ("Hello wor", False)),
        (["Hello wonder", "ful"], ("Hello wor", False)),
        ([], ("Hello wor", False)),
    ],
)
def test_the_same_text_goes_on_and_another_one_does_not(
    again: list[str], expected: tuple[str, bool]
) -> None:
    assert play("Hello wor", again) == expected


def render(*shown: events.Event) -> str:
    completion = Completion("r", "m", "")
    lines = [(number, encode_event(event)) for number, event in enumerate(shown, 1)]
    return (completion.render(lines) + completion.finish()).decode()


def plain(text: str) -> events.Event:
    return events.plain("r", text, streaming=True)


def test_chunks_go_on_after_a_pickup_or_end_as_failed() -> None:
    begin = (plain("It is "), plain("half"), events.rewind("r", 0, 10, again=True))
    whole = render(*begin, plain("It is"), plain(" half past"), plain(" six."), events.end("r"))
    assert whole.count('"content"') == 4
    assert '"content":" past"' in whole
    assert "error" not in whole
    other = render(*begin, plain("It is"), plain(" six."), events.end("r"))
    assert '"code":"run_interrupted"' in other
    assert other.endswith("data: [DONE]\n\n")
