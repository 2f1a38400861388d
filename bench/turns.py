"""(c) Whole chat turns, and five hundred of them at once."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import ExitStack

from astrbot_api.testing.fake_openai import FakeOpenAI
from tests.e2e.crowd import chat_at_once
from tests.servers import Server, create_key, write_config

from .contestants import ROOM, WORKERS, make_folder, read_usage, start_bare, write_mock_config
from .crowd import post
from .figures import FLASK, OURS, WSGI, Aim, Finding, Panel, Sizes, spread, take_turns
from .load import Result, run_load

_COMPARED = (
    "32 clients run turns of four tokens one after another, on 400 sessions, from the request to "
    "the end of the stream, with everything stored. The model is the mock provider in the worker, "
    "or an endpoint in a separate process. Bare Flask and WSGI call the same endpoint and forward "
    "each token in the same frame, without keys, sessions, history or resuming."
)

_MOCK = f"{OURS}, mock provider"
_ENDPOINT = f"{OURS}, endpoint"
_SESSIONS = 400


def measure_turns(sizes: Sizes) -> Finding:
    """Measure turns per second on one worker."""
    with ExitStack() as stack:
        model = stack.enter_context(FakeOpenAI())
        folder = make_folder(stack)
        write_mock_config(folder)
        mocked = stack.enter_context(Server(folder, workers=WORKERS, **ROOM))
        asking = make_folder(stack)
        write_config(asking, model.base_url, agent="titles = false")
        asks = stack.enter_context(Server(asking, workers=WORKERS, **ROOM))
        bare = start_bare(stack, BENCH_MODEL=model.base_url)
        servers = {_MOCK: mocked, _ENDPOINT: asks, **bare}
        keys = {_MOCK: create_key(folder, "chat"), _ENDPOINT: create_key(asking, "chat")}

        def load(name: str) -> tuple[Result, float]:
            server, key = servers[name], keys.get(name, "-")
            path = "/api/v1/chat" if name in keys else "/relay"
            good = b'"complete","data":"Hello from mock."' if name in keys else b'"data":" mock"'
            sessions = [str(uuid.uuid4()) for _ in range(_SESSIONS)]

            def request(number: int) -> bytes:
                session = sessions[number % _SESSIONS]
                body = {"username": "bench", "session_id": session, "message": f"Hello {number}"}
                return post(path, key, body)

            before = read_usage(server)
            result = run_load(
                server.port, request, lambda answer: answer.endswith(b"\r\n0\r\n\r\n"),
                connections=32, seconds=sizes.seconds, is_good=lambda answer: good in answer,
            )  # fmt: skip
            assert not result.failed, f"{name}: {result.failed} turns failed"
            return result, 1e6 * (read_usage(server).cpu_s - before.cpu_s) / result.requests

        jobs: dict[str, Callable[[], tuple[Result, float]]] = {
            name: lambda name=name: load(name) for name in servers
        }
        found = take_turns(jobs, sizes.rounds)
    rate = {name: spread([one.per_second for one, _ in rounds]) for name, rounds in found.items()}
    p99 = {
        name: spread([one.percentile_ms(99) for one, _ in rounds]) for name, rounds in found.items()
    }
    return Finding(
        _COMPARED,
        {
            "turns_per_second": rate,
            "p99_ms": p99,
            "cpu_us_per_turn": {
                name: spread([one for _, one in rounds]) for name, rounds in found.items()
            },
            "endpoint_ratio_to_flask": rate[_ENDPOINT].median / rate[FLASK].median,
            "endpoint_ratio_to_wsgi": rate[_ENDPOINT].median / rate[WSGI].median,
        },
        [
            Aim("turns per second, mock provider, one worker", rate[_MOCK].median, at_least=200),
            Aim("turns per second, an endpoint, one worker", rate[_ENDPOINT].median, at_least=200),
        ],
        [
            Panel("whole turns", "a second", rate, 200),
            Panel("32 clients, p99 of a turn", "ms", p99),
        ],
    )


def measure_crowd(sizes: Sizes) -> Finding:
    """Measure simultaneous chats on two workers with a model that takes 4 s for each."""
    with ExitStack() as stack:
        model = stack.enter_context(FakeOpenAI())
        folder = make_folder(stack)
        write_config(folder, model.base_url, agent="titles = false")
        key = create_key(folder, "chat")
        server = stack.enter_context(Server(folder, **ROOM))
        server.chat(key, message="warm")
        outcomes = chat_at_once(server.port, key, sizes.crowd, "ECHO FIRST=4000")
    last_s = max(one.ended_s for one in outcomes)
    wrong = sum(not one.right for one in outcomes)
    return Finding(
        f"{sizes.crowd} chats start together. The model's first token arrives after 4 s.",
        {"chats": len(outcomes), "wrong": wrong, "last_s": last_s},
        [Aim("wrong answers", wrong, at_most=0), Aim("seconds to the last", last_s, at_most=8)],
        [Panel(f"{sizes.crowd} chats at once", "seconds to the last", {OURS: last_s}, 8)],
    )
