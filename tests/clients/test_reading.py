"""Existing programs read streams with their libraries' own line readers.

The answer has Chinese text and every character at which some library ends a line.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from astrbot_api.testing.fake_openai import FakeOpenAI

from ..e2e.test_owner_pages import browser
from ..servers import Server, create_key, write_config
from .npm_packages import NPM, find_node

__all__ = ["browser"]

pytestmark = pytest.mark.e2e

#: Characters besides LF and CR at which ``str.splitlines`` splits, and characters that JSON
#: escapes.
ODD = '\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\\"\t\u00a0\ufeff'

QUESTION = f"ECHO 你好 {ODD} 全部完成"

ANSWER = f"echo: {QUESTION}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, fake_model: FakeOpenAI) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("reading")
    write_config(data_dir, fake_model.base_url, agent="titles = false")
    with Server(data_dir, ASTRBOT_CORS_ORIGINS="*") as made:
        yield made


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    return create_key(server.data_dir, "chat")


def body() -> dict[str, str]:
    return {"message": QUESTION, "username": "ada"}


def read_answer(lines: Iterable[str]) -> str:
    """Return the joined text of the pieces. Each data line must be valid JSON."""
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line[:6] == "data: "]
    assert events[-1]["type"] == "end"
    pieces = [event["data"] for event in events if event["type"] == "plain"]
    (whole,) = [event["data"] for event in events if event["type"] == "complete"]
    assert "".join(pieces) == whole
    return str(whole)


def test_requests_reads_a_stream_in_text_mode(server: Server, key: str) -> None:
    requests = pytest.importorskip("requests")
    with requests.post(
        f"{server.url}/api/v1/chat",
        json=body(),
        headers={"X-API-Key": key},
        stream=True,
        timeout=60,
    ) as answer:
        assert answer.encoding == "utf-8"
        assert read_answer(answer.iter_lines(decode_unicode=True)) == ANSWER


def test_httpx_reads_a_stream_by_lines(server: Server, key: str) -> None:
    httpx = pytest.importorskip("httpx")
    url, headers = f"{server.url}/api/v1/chat", {"Authorization": f"Bearer {key}"}
    with httpx.stream("POST", url, json=body(), headers=headers, timeout=60) as answer:
        assert read_answer(answer.iter_lines()) == ANSWER


def test_aiohttp_reads_a_stream_within_its_line_buffer(server: Server, key: str) -> None:
    aiohttp = pytest.importorskip("aiohttp")

    async def ask() -> list[str]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{server.url}/api/v1/chat", json=body(), headers={"X-API-Key": key}
            ) as answer,
        ):
            return [line.decode().rstrip("\n") async for line in answer.content]

    assert read_answer(asyncio.run(ask())) == ANSWER


def test_python_splits_a_whole_body_into_frames(server: Server, key: str) -> None:
    answer = server.request("POST", "/api/v1/chat", key, json=body())
    assert read_answer(answer.data.decode().splitlines()) == ANSWER


#: Reads a turn with ``fetch``, then its run with ``EventSource`` until the response is 204.
_PAGE = """async ([url, key, body]) => {
    const answer = await fetch(`${url}/api/v1/chat`, {
        method: "POST", body: JSON.stringify(body),
        headers: { "X-API-Key": key, "Content-Type": "application/json" },
    });
    let text = "";
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let one = await reader.read(); !one.done; one = await reader.read()) text += one.value;
    const run = text.match(/"run_id":"([^"]+)"/)[1];
    const lines = [];
    const query = new URLSearchParams({ api_key: key, username: "ada" });
    const source = new EventSource(`${url}/api/v1/chat/runs/${run}/stream?${query}`);
    await new Promise((resolve) => {
        source.onmessage = (event) => lines.push(`data: ${event.data}`);
        source.onerror = () => source.readyState === EventSource.CLOSED && resolve();
    });
    return [text.split("\\n"), lines];
}"""


def test_a_page_reads_by_fetch_and_by_event_source(browser: Any, server: Server, key: str) -> None:
    page = browser.new_page()
    try:
        page.goto(f"{server.url}/api/v1/docs")
        fetched, resumed = page.evaluate(_PAGE, [server.url, key, body()])
    finally:
        page.close()
    assert read_answer(fetched) == ANSWER
    assert read_answer(resumed) == ANSWER


#: Follows a run with the package ``eventsource`` from an id on, until it stops.
_NODE = """
import { EventSource } from "eventsource";
const [url, key, last] = process.argv.slice(2);
let requests = 0;
const source = new EventSource(url, {
    fetch: (input, init) => {
        requests += 1;
        const headers = { ...init.headers, "X-API-Key": key };
        if (last !== "" && requests === 1) headers["Last-Event-ID"] = last;
        return fetch(input, { ...init, headers });
    },
});
const lines = [];
setInterval(() => {}, 1000); // since version 5, the package keeps no process alive
source.onmessage = (event) => lines.push(`data: ${event.data}`);
source.onerror = (event) => {
    if (source.readyState !== EventSource.CLOSED) return;
    console.log(JSON.stringify({ lines, requests, status: event.code ?? null }));
    process.exit(0);
};
"""


@pytest.mark.parametrize(
    ("last", "status"),
    [("", 204), ("the end", 204), ("999999", 204), ("nonsense", 400), ("-1", 400)],
)
def test_npm_eventsource_reaches_the_end_from_any_id(
    server: Server, key: str, last: str, status: int
) -> None:
    node = find_node("eventsource")
    text = server.request("POST", "/api/v1/chat", key, json=body()).data.decode()
    ids, runs = (
        re.findall(r"^id: (.+)$", text, re.MULTILINE),
        re.findall(r'"run_id":"([^"]+)"', text),
    )
    url = f"{server.url}/api/v1/chat/runs/{runs[0]}/stream?username=ada"
    done = subprocess.run(
        [node, "--input-type=module", "-", url, key, ids[-1] if last == "the end" else last],
        input=_NODE, capture_output=True, text=True, timeout=60, check=False, cwd=NPM,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["status"], said["requests"]) == (status, 1 if last else 2)
    if last:
        assert said["lines"] == []
    else:
        assert read_answer(said["lines"]) == ANSWER
