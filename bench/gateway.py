"""(k) In front of an AstrBot: the same clients through this server, and straight at it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from urllib.parse import urlsplit

from astrbot_api.testing import FakeAstrBot
from tests.e2e.crowd import Outcome, chat_at_once
from tests.servers import Server, create_key

from .contestants import make_folder
from .figures import OURS, Aim, Finding, Panel, Sizes, ratio, spread, take_turns

STRAIGHT = "straight at AstrBot"

_CLIENTS = 64

#: As many as a real AstrBot answers at a time, and as this server sends it.
_FEW = 4

_COMPARED = (
    "64 clients ask at once, through this server with two workers, which has 4 turns at a time "
    "there, or straight at a fake AstrBot, which fails as a real one does from 8 chats at once. An "
    "answer begins after 200 ms, so 64 of them take 3.2 s, 4 at a time. Beside it 4 clients, as "
    "many as both answer at a time, whose answers begin at once: what this server adds."
)


def measure_gateway(sizes: Sizes) -> Finding:
    """Right answers, and time to the last one, with and without this server."""
    with ExitStack() as stack:
        astrbot = stack.enter_context(FakeAstrBot())
        folder = make_folder(stack)
        (folder / "configs").mkdir()
        (folder / "configs" / "default.toml").write_text(
            f'[upstream]\nbase_url = "{astrbot.url}"\napi_key = "{astrbot.key}"\n'
            f"max_concurrent = {_FEW}\n",
            encoding="utf-8",
        )
        key = create_key(folder, "chat")
        server = stack.enter_context(Server(folder))
        server.chat(key, message="warm")
        doors = {OURS: (server.port, key), STRAIGHT: (urlsplit(astrbot.url).port or 0, astrbot.key)}
        crowd = take_turns(_ask(doors, _CLIENTS, "ECHO FIRST=200"), sizes.rounds, warm=False)
        few = take_turns(_ask(doors, _FEW, "ECHO"), 4 * sizes.rounds)
    right = {name: spread([_count_right(one) for one in rounds]) for name, rounds in crowd.items()}
    last_s = {name: spread([_last_s(one) for one in rounds]) for name, rounds in crowd.items()}
    few_ms = {name: [1000 * _last_s(one) for one in rounds] for name, rounds in few.items()}
    few_spread = {name: spread(values) for name, values in few_ms.items()}
    return Finding(
        _COMPARED,
        {
            "right_of_64": right,
            "seconds_to_the_last_of_64": last_s,
            "ms_to_the_last_of_4": few_spread,
            "added_ms": spread(
                [ours - theirs for ours, theirs in zip(*few_ms.values(), strict=True)]
            ),
            "ratio_of_4": ratio(few_ms[OURS], few_ms[STRAIGHT]),
        },
        [
            Aim("right answers of 64, at the least", min(right[OURS].values), at_least=_CLIENTS),
            Aim("seconds to the last of 64", last_s[OURS].median, at_most=8),
        ],
        [
            Panel("64 clients at once: right answers", "of 64", right, _CLIENTS),
            Panel("4 clients at once: the last answer", "ms", few_spread),
        ],
    )


def _ask(
    doors: dict[str, tuple[int, str]], clients: int, words: str
) -> dict[str, Callable[[], list[Outcome]]]:
    return {
        name: partial(chat_at_once, port, key, clients, words)
        for name, (port, key) in doors.items()
    }


def _count_right(outcomes: list[Outcome]) -> int:
    return sum(one.right for one in outcomes)


def _last_s(outcomes: list[Outcome]) -> float:
    return max(one.ended_s for one in outcomes)
