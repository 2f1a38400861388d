"""(k) Gateway for an AstrBot: the same clients through this server and directly."""

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

STRAIGHT = "directly to AstrBot"

_CLIENTS = 64

#: Number of simultaneous turns that a real AstrBot answers, and that this server sends.
_FEW = 4

_COMPARED = (
    "64 clients send a message at once, through this server or directly to a fake AstrBot. This "
    "server has two workers and sends 4 turns at a time. Like a real AstrBot, the fake fails from "
    "8 chats at once. An answer starts after 200 ms, so 64 answers take 3.2 s. A second test has 4"
    " clients and instant answers, and shows the delay that this server adds."
)


def measure_gateway(sizes: Sizes) -> Finding:
    """Measure correct answers and the time to the last one, with and without this server."""
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
            Aim("minimum of correct answers of 64", min(right[OURS].values), at_least=_CLIENTS),
            Aim("seconds to the last of 64", last_s[OURS].median, at_most=8),
        ],
        [
            Panel("64 clients at once: correct answers", "of 64", right, _CLIENTS),
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
