"""The official MCP clients with a server of two workers."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ..servers import MOCK_CONFIG, Server, add_config, create_key
from .npm_packages import make_do

pytest.importorskip("mcp")

from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("mcp")
    add_config(data_dir, MOCK_CONFIG)
    with Server(data_dir) as made:
        yield made


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    return create_key(server.data_dir, "chat")


@asynccontextmanager
async def connect(server: Server, key: str, mode: str, username: str) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {key}"}
    url = f"{server.url}/api/v1/mcp?username={username}"
    async with (
        create_mcp_http_client(headers) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


Job = Callable[[Client], Awaitable[Any]]


@pytest.fixture(params=["legacy", "auto"])
def run(request: pytest.FixtureRequest, server: Server, key: str) -> Callable[[Job], Any]:
    """Run a job with a client that starts with a handshake, and with one that does not."""

    async def connected(job: Job) -> Any:
        async with connect(server, key, request.param, f"{request.param}-user") as client:
            return await job(client)

    return lambda job: asyncio.run(asyncio.wait_for(connected(job), 60))


def test_every_client_can_ask_the_agent_and_gets_its_progress(run: Callable[[Job], Any]) -> None:
    async def job(client: Client) -> Any:
        assert client.server_info.name == "astrbot-api"
        (tool,) = (await client.list_tools()).tools
        news: list[str] = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            news.append(message or "")

        first = await client.call_tool(
            "chat", {"message": "DELAY=50 Hello"}, progress_callback=note
        )
        session_id = first.structured_content["session_id"]  # type: ignore[index]
        again = await client.call_tool("chat", {"message": "ECHO 2", "session_id": session_id})
        return tool, first, again, news

    tool, first, again, news = run(job)
    assert tool.name == "chat"
    assert tool.input_schema["properties"]["config_id"]["enum"] == ["default"]
    assert first.content[0].text == first.structured_content["text"] == "Hello from mock."
    assert "".join(news) == "Hello from mock."
    assert len(news) > 1
    assert again.content[0].text == "echo: ECHO 2"
    assert again.structured_content["session_id"] == first.structured_content["session_id"]


def test_every_client_can_read_the_sessions(run: Callable[[Job], Any]) -> None:
    async def job(client: Client) -> Any:
        name = f"my session/{uuid.uuid4()}"
        await client.call_tool("chat", {"message": "Hello", "session_id": name})
        found = (await client.list_resources()).resources
        (template,) = (await client.list_resource_templates()).resource_templates
        uri = next(one.uri for one in found if one.name == name)
        return template, await client.read_resource(str(uri))

    template, read = run(job)
    assert template.uri_template.startswith("astrbot://sessions/{session_id}")
    text = read.contents[0].text
    assert '"role":"user","text":"Hello"' in text
    assert '"role":"assistant","text":"Hello from mock."' in text


def test_every_client_gets_the_reason_of_an_error(run: Callable[[Job], Any]) -> None:
    async def job(client: Client) -> Any:
        failed = await client.call_tool("chat", {"message": "FAIL=400"})
        refused = await client.call_tool("chat", {"message": "Hello", "config_id": "nowhere"})
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool("else", {})
        return failed, refused

    failed, refused = run(job)
    assert failed.is_error
    assert "400" in failed.content[0].text
    assert refused.is_error
    assert "nowhere" in refused.content[0].text


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_a_wrong_key_is_an_error_with_its_reason(server: Server, mode: str) -> None:
    async def job() -> None:
        async with connect(server, "abk_wrong", mode, "alice") as client:
            await client.list_tools()

    wrong = pytest.RaisesExc(MCPError, match="Invalid API key")
    with pytest.RaisesGroup(wrong, allow_unwrapped=True, flatten_subgroups=True):
        asyncio.run(asyncio.wait_for(job(), 60))


#: Client for TypeScript in version 1, and in version 2 with and without a handshake.
SDK = "@modelcontextprotocol/sdk/client"
TYPESCRIPT = [
    {"client": f"{SDK}/index.js", "transport": f"{SDK}/streamableHttp.js"},
    *(
        {
            "client": "@modelcontextprotocol/client", "transport": "@modelcontextprotocol/client",
            "options": {"versionNegotiation": {"mode": mode}},
        }
        for mode in ("legacy", "auto")
    ),
]  # fmt: skip


@pytest.mark.parametrize("client", TYPESCRIPT, ids=["1", "2-legacy", "2"])
def test_the_clients_for_typescript_ask_and_read(
    server: Server, key: str, client: dict[str, Any]
) -> None:
    do = make_do("mcp.mjs", "@modelcontextprotocol/client", server, key)
    assert do("use", **client) == {
        "tools": ["chat"], "text": "Hello from mock.", "pieces": "Hello from mock.",
        "roles": ["user", "assistant"], "failed": True,
    }  # fmt: skip
    assert re.search("Invalid API key|requires authorization", do("refuse", **client))
