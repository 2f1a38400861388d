"""Encoding of scripted answers as chat completions."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from ..providers.mock import TOOL_CALL_ID, Script

#: Creation time of all answers and models, in seconds since 1970.
CREATED = 1700000000

_ID = "chatcmpl-mock"


class ScriptedAnswer:
    """One completion that the fake endpoint sends.

    :param body: The request, which names the model and may request the usage.
    """

    def __init__(self, writer: asyncio.StreamWriter, body: dict[str, Any], script: Script) -> None:
        self._writer = writer
        self._body = body
        self._script = script
        self._model = body.get("model") or "mock"
        self._waiting: list[bytes] = []
        self._usage = {
            "prompt_tokens": script.prompt_tokens,
            "completion_tokens": len(script.tokens),
            "total_tokens": script.prompt_tokens + len(script.tokens),
        }

    async def send_whole(self) -> None:
        """Send the completion as one JSON object."""
        script = self._script
        await asyncio.sleep(script.first_delay_s + script.delay_s * max(1, len(script.tokens)))
        message: dict[str, Any] = {"role": "assistant", "content": "".join(script.tokens)}
        if script.reasoning:
            message["reasoning_content"] = "".join(script.reasoning)
        if script.tool:
            function = {"name": script.tool.name, "arguments": script.tool.arguments}
            message["content"] = None
            message["tool_calls"] = [{"id": TOOL_CALL_ID, "type": "function", "function": function}]
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason()}
        await send_json(
            self._writer,
            200,
            {
                "id": _ID,
                "object": "chat.completion",
                "created": CREATED,
                "model": self._model,
                "choices": [choice],
                "usage": self._usage,
            },
        )

    async def stream(self) -> bool:
        """Send the completion as events. Events without a pause are sent together.

        :returns: Whether the connection can be reused.
        """
        self._writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        script = self._script
        self._add({"role": "assistant", "content": ""})
        await self._pause(script.first_delay_s)
        for thought in script.reasoning:
            await self._pause(script.delay_s)
            self._add({"reasoning_content": thought})
        if script.tool:
            begin = {"name": script.tool.name, "arguments": ""}
            call = {"index": 0, "id": TOOL_CALL_ID, "type": "function", "function": begin}
            self._add({"tool_calls": [call]})
            rest = {"index": 0, "function": {"arguments": script.tool.arguments}}
            self._add({"tool_calls": [rest]})
        elif not await self._add_tokens():
            return False
        self._add({}, self._finish_reason())
        if (self._body.get("stream_options") or {}).get("include_usage"):
            self._add_event({"choices": [], "usage": self._usage})
        self._waiting.append(b"data: [DONE]\n\n")
        await self._flush()
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()
        return True

    async def _add_tokens(self) -> bool:
        script = self._script
        for index, token in enumerate(script.tokens):
            if script.drop_after is not None and index >= script.drop_after:
                await self._flush()
                self._writer.transport.abort()
                return False
            await self._pause(script.delay_s)
            self._add({"content": token})
        return True

    def _finish_reason(self) -> str:
        return self._script.finish or ("tool_calls" if self._script.tool else "stop")

    def _add(self, delta: dict[str, Any], finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        self._add_event({"choices": [choice]})

    def _add_event(self, fields: dict[str, Any]) -> None:
        event = {
            "id": _ID,
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": self._model,
            **fields,
        }
        self._waiting.append(b"data: " + json.dumps(event).encode() + b"\n\n")

    async def _pause(self, pause_s: float) -> None:
        if not pause_s:
            return
        await self._flush()
        await asyncio.sleep(pause_s)
        if self._writer.transport.is_closing():
            raise ConnectionResetError

    async def _flush(self) -> None:
        if self._waiting:
            data = b"".join(self._waiting)
            self._waiting.clear()
            self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await self._writer.drain()


async def send_json(writer: asyncio.StreamWriter, status: int, value: Any) -> None:
    """Send one HTTP response and keep the connection open."""
    content = json.dumps(value).encode()
    writer.write(
        b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Connection: keep-alive\r\n\r\n%b" % (status, len(content), content)
    )
    await writer.drain()
