"""A worker's connection to the sidecar, with a fake sidecar."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from astrbot_api.agent.cancel import Cancellation
from astrbot_api.errors import RunCancelled, ToolError
from astrbot_api.mcp import link as link_module
from astrbot_api.mcp.link import Link
from astrbot_api.mcp.wire import MAX_REPLY_BYTES

from ..mcp_servers.peer import FakeSidecar, Peer, play_sidecar
from ..waiting import LIMIT_S

SERVERS = {"KEY": {"name": "odd", "command": ["x"]}}

GONE = "the MCP sidecar ended during the call; try again later"


def make(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"tool": tool, "arguments": arguments}


class Case:
    """A link, its reports, and calls that wait in threads."""

    def __init__(self, sidecar: FakeSidecar) -> None:
        self.sidecar = sidecar
        self.states: queue.Queue[Mapping[str, Any]] = queue.Queue()
        self.lost = threading.Event()
        self.quiet = threading.Event()
        self.link = Link(
            sidecar.path,
            on_state=self.states.put,
            on_lost=self.lost.set,
            on_quiet=self.quiet.set,
        )
        self.threads = ThreadPoolExecutor(10)

    def connect(self) -> Peer:
        """Let the link connect and receive a state, so that it is up."""
        self.link.set_servers(SERVERS)
        return self.greet()

    def greet(self) -> Peer:
        peer = self.sidecar.accept()
        assert peer.hello() == SERVERS
        peer.send(type="state", server="KEY", status="running", tools=[])
        assert self.states.get(timeout=LIMIT_S)["status"] == "running"
        return peer

    def call(self, tool: str = "echo", cancel: Cancellation | None = None) -> Future[Any]:
        return self.threads.submit(self.link.call, "KEY", make(tool), cancel or Cancellation())


@pytest.fixture
def case() -> Iterator[Case]:
    with play_sidecar() as sidecar:
        case = Case(sidecar)
        yield case
        case.link.close()
        case.threads.shutdown()


def text_of(call: Future[Any]) -> str:
    content: str = call.result(LIMIT_S)["content"][0]["text"]
    return content


def test_answers_find_their_calls_in_any_order(case: Case) -> None:
    peer = case.connect()
    calls = {tool: case.call(tool) for tool in ("a", "b", "c")}
    requests = [peer.read() for _ in calls]
    for request in reversed(requests):
        peer.answer(request, f"{request['tool']}!")
    assert {tool: text_of(call) for tool, call in calls.items()} == {
        "a": "a!", "b": "b!", "c": "c!",
    }  # fmt: skip


def test_a_failure_is_what_the_model_gets(case: Case) -> None:
    peer = case.connect()
    call = case.call()
    peer.send(type="result", id=peer.read()["id"], failure="the MCP server odd is not running")
    with pytest.raises(ToolError, match="the MCP server odd is not running"):
        call.result(LIMIT_S)


def test_the_progress_of_a_call_reaches_its_caller(case: Case) -> None:
    peer = case.connect()
    reported: queue.Queue[Any] = queue.Queue()
    call = case.threads.submit(
        case.link.call, "KEY", make("slow"), Cancellation(), lambda *one: reported.put(one)
    )
    number = peer.read()["id"]
    peer.send(type="progress", id=number, progress=1, total=None, message=None)
    peer.send(type="progress", id=number + 1, progress=7, total=8, message="of nobody's call")
    peer.send(type="progress", id=number, progress=2, total=3, message="reading")
    assert reported.get(timeout=LIMIT_S) == (1, None, "")
    assert reported.get(timeout=LIMIT_S) == (2, 3, "reading")
    peer.answer({"id": number}, "done")
    assert text_of(call) == "done"
    peer.send(type="progress", id=number, progress=3, total=3, message="late")
    other = case.call()
    peer.answer(peer.read(), "mine")
    assert text_of(other) == "mine"
    assert reported.empty()


def test_a_call_that_is_cancelled_ends_and_the_sidecar_is_notified(case: Case) -> None:
    peer = case.connect()
    cancel = Cancellation()
    call = case.call(cancel=cancel)
    request = peer.read()
    cancel.cancel()
    with pytest.raises(RunCancelled):
        call.result(LIMIT_S)
    assert peer.read() == {"type": "cancel", "id": request["id"]}
    # A late response is ignored.
    peer.answer(request, "late")
    other = case.call()
    peer.answer(peer.read(), "mine")
    assert text_of(other) == "mine"


def test_calls_end_when_the_sidecar_ends_and_work_when_it_is_back(case: Case) -> None:
    peer = case.connect()
    calls = [case.call(), case.call()]
    for _ in calls:
        peer.read()
    peer.close()
    for call in calls:
        with pytest.raises(ToolError, match=GONE):
            call.result(LIMIT_S)
    assert case.lost.wait(LIMIT_S)
    with pytest.raises(ToolError, match="the MCP sidecar is not running; try again later"):
        case.call().result(LIMIT_S)
    again = case.greet()
    call = case.call()
    again.answer(again.read(), "back")
    assert text_of(call) == "back"


def test_nothing_is_asked_of_a_sidecar_that_has_not_said_hello(case: Case) -> None:
    case.link.set_servers(SERVERS)
    case.sidecar.accept()
    with pytest.raises(ToolError, match="is not running"):
        case.call().result(LIMIT_S)


def test_new_wishes_are_sent_at_once(case: Case) -> None:
    peer = case.connect()
    case.link.set_servers({})
    assert peer.read() == {"type": "want", "servers": {}}


def test_arguments_that_are_too_large_are_refused_here(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.connect()
    monkeypatch.setattr(link_module, "MAX_REQUEST_BYTES", 100)
    with pytest.raises(ToolError, match="the arguments are too large"):
        case.link.call("KEY", make("echo", text="x" * 100), Cancellation())


@pytest.mark.parametrize(
    "break_it",
    [
        lambda peer: peer.connection.sendall(b"no json\n"),
        lambda peer: peer.send(type="hello", version=99),
        lambda peer: peer.send(nothing="known"),
    ],
)
def test_a_sidecar_that_talks_nonsense_is_left(
    case: Case, break_it: Callable[[Peer], None]
) -> None:
    peer = case.connect()
    call = case.call()
    peer.read()
    break_it(peer)
    with pytest.raises(ToolError, match=GONE):
        call.result(LIMIT_S)
    case.greet()


def test_a_line_without_end_is_cut_off(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MAX_REPLY_BYTES", 1000)
    assert MAX_REPLY_BYTES > 1000
    peer = case.connect()
    call = case.call()
    peer.read()
    peer.connection.sendall(b"x" * 2000)
    with pytest.raises(ToolError, match=GONE):
        call.result(LIMIT_S)


def test_in_silence_somebody_looks(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "_QUIET_S", 0.01)
    case.connect()
    assert case.quiet.wait(LIMIT_S)


def test_without_a_sidecar_the_reason_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "_MAX_PAUSE_S", 0.001)
    tries: queue.Queue[None] = queue.Queue()
    link = Link(
        "/no/such/socket",
        on_state=lambda state: None,
        on_lost=lambda: tries.put(None),
        on_quiet=lambda: None,
    )
    link.set_servers(SERVERS)
    for _ in range(3):
        tries.get(timeout=LIMIT_S)
    link.close()
    assert len([one for one in caplog.messages if "no MCP sidecar at /no/such/socket" in one]) == 1


def test_a_link_that_was_never_used_can_be_closed(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[threading.Thread] = []
    monkeypatch.setattr(threading.Thread, "start", started.append)
    case.link.close()
    case.link.set_servers(SERVERS)
    assert started == [], "a closed link connects no more"
    with pytest.raises(ToolError, match="not running"):
        case.link.call("KEY", make("echo"), Cancellation())
