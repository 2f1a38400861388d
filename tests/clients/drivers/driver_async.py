"""Runs the jobs of its input with the async client, one JSON line per job.

``driver_sync.py`` is generated from this file like the sync client from the async one.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from astrbot_client import ApprovalRequired, AsyncClient, ClientError, InboxMessage, TextDelta


def describe(error: Exception) -> dict[str, Any]:
    reply = getattr(error, "reply", None)
    return {
        "kind": type(error).__name__, "message": getattr(error, "message", str(error)),
        "code": getattr(error, "code", ""), "status": getattr(error, "status", None),
        "reply": show(reply) if reply is not None else None,
    }  # fmt: skip


def show(reply: Any) -> dict[str, Any]:
    return {**vars(reply), "error": reply.error[0] if reply.error else None}


async def read_chat(stream: Any, job: dict[str, Any]) -> dict[str, Any]:
    deltas, numbers, raw, pushed = [], [], [], []
    async for event in stream:
        (pushed if event.pushed else raw).append(event.raw)
        if event.number is not None:
            numbers.append(event.number)
        if not isinstance(event, TextDelta) or event.pushed:
            continue
        deltas.append(event.text)
        if job.get("say_started"):
            print('{"started":true}', flush=True)
        if job.get("stop"):
            await stream.stop()
        if job.get("leave"):
            await stream.aclose()
            break
    return {
        "deltas": deltas, "numbers": numbers, "raw": raw, "pushed": pushed,
        "reply": show(stream.reply), "last": stream.last_event_id,
    }  # fmt: skip


async def do_chat(client: AsyncClient, job: dict[str, Any]) -> Any:
    session_id = job.get("session_id")
    return await read_chat(
        client.chat(job["message"], username="alice", session_id=session_id), job
    )


async def do_decide(client: AsyncClient, job: dict[str, Any]) -> Any:
    stream = client.chat(job["message"], username="alice", config_id="careful")
    asked = []
    async for event in stream:
        if isinstance(event, ApprovalRequired):
            asked.append([event.name, event.arguments])
            if job.get("inside"):
                await stream.decide(event.id, job["decision"])
    if job.get("inside"):
        return [asked, show(stream.reply)]
    # The loop has ended because the run waits.
    waiting = [one["id"] for one in stream.reply.waiting]
    for approval_id in waiting:
        await stream.decide(
            approval_id, job["decision"],
            arguments=job.get("arguments"), comment=job.get("comment"),
        )  # fmt: skip
    return [asked, show(await stream.final())]


async def do_text(client: AsyncClient, job: dict[str, Any]) -> Any:
    session_id = job.get("session_id")
    return await client.chat(job["message"], username="alice", session_id=session_id).text()


async def do_resume(client: AsyncClient, job: dict[str, Any]) -> Any:
    left = await read_chat(client.chat(job["message"], username="alice"), {"leave": True})
    run_id = left["reply"]["run_id"]
    rest = client.runs.resume(run_id, username="alice", after=left["last"])
    return [left, await read_chat(rest, {})]


async def do_files(client: AsyncClient, job: dict[str, Any]) -> Any:
    data = bytes(at * 7 % 251 for at in range(job["size"]))
    seen: list[int] = []
    kept = await client.files.upload(
        data, filename="a.bin", progress=lambda done, total: seen.append(done)
    )
    back = await client.files.download(kept["attachment_id"])
    return {"same": back == data, "last": seen[-1] >= job["size"], "filename": kept["filename"]}


async def do_large(client: AsyncClient, job: dict[str, Any]) -> Any:
    data = (bytes(at * 7 % 251 for at in range(251)) * (job["size"] // 251 + 1))[: job["size"]]
    seen: list[int] = []

    def stop(done: int, total: int | None) -> None:
        if done >= job["stop_at"]:
            raise RuntimeError("the program ends")

    upload_id = ""
    try:
        await client.files.upload(data, filename="large.bin", progress=stop)
    except RuntimeError as error:
        upload_id = error.upload_id  # type: ignore[attr-defined]
    kept = await client.files.upload(
        data, filename="large.bin", upload_id=upload_id,
        progress=lambda done, total: seen.append(done),
    )  # fmt: skip
    back = await client.files.download(kept["attachment_id"])
    return {
        "same": back == data, "first": seen[0], "last": seen[-1], "filename": kept["filename"],
    }  # fmt: skip


async def do_sessions(client: AsyncClient, job: dict[str, Any]) -> Any:
    name, made = job["username"], 0
    for _ in range(job["count"]):
        await client.sessions.create(name)
        made += 1
    listed = [one["session_id"] async for one in client.sessions.list(name)]
    await client.chat("Hello", username=name, session_id=listed[0]).final()
    messages = [
        one["content"]["type"] async for one in client.sessions.messages(listed[0], username=name)
    ]
    await client.sessions.rename(listed[0], "Title", username=name)
    session = await client.sessions.get(listed[0], username=name)
    await client.sessions.delete(listed[0], username=name)
    return {
        "made": made, "listed": len(set(listed)), "messages": messages,
        "display_name": session["display_name"],
    }  # fmt: skip


async def do_inbox(client: AsyncClient, job: dict[str, Any]) -> Any:
    texts: list[str] = []
    sent = 0
    async for event in client.inbox("alice"):
        if isinstance(event, InboxMessage) and event.message["content"]["type"] == "bot":
            parts = event.message["content"]["message"]
            texts.append("".join(one.get("text", "") for one in parts))
        if len(texts) == len(job["messages"]):
            break
        if sent == len(texts):
            await client.im.send(job["umo"], job["messages"][sent])
            sent += 1
    return texts


async def do_self(client: AsyncClient, job: dict[str, Any]) -> Any:
    data = await client.keys.get_self()
    return sorted(data["scopes"])


async def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        answer: dict[str, Any]
        async with AsyncClient(
            job["url"], api_key=job["key"], retry_s=job.get("retry_s", 60)
        ) as client:
            try:
                answer = {"ok": await globals()[f"do_{job['do']}"](client, job)}
            except ClientError as error:
                answer = {"error": describe(error)}
        print(json.dumps(answer), flush=True)


asyncio.run(main())
