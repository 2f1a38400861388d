"""The client. ``generate.py`` creates ``_sync_client.py`` from this file."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Optional, cast
from urllib.parse import quote

import httpx

from ._files import CHUNKED_ABOVE_BYTES, CountingFile, hash_file, open_source, open_target
from ._turn import Turn, build_body, read_data
from ._waiting import Backoff, async_sleep
from .errors import ApiError, ConnectionLost, UnsupportedError, read_error
from .events import Event, InboxMessage, InboxOpened, TextDelta
from .types import Message, Progress, Reply

_USER_AGENT = "astrbot-api-client/0.1.0"

#: Hosts that are never reached through a proxy.
_DIRECT = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}

#: Errors of a connection for which a retry may help.
_BREAKS = (httpx.TransportError,)

#: Errors of the request itself, for which a retry does not help.
_FINAL = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.ProxyError)

#: Errors before the request is sent, so it cannot have arrived.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class AsyncClient:
    """A client of one server.

    ::

        async with AsyncClient("http://127.0.0.1:6185", api_key="abk_…") as client:
            print(await client.chat("Hello", username="alice").text())

    :param base_url: URL with or without ``/api/v1``, but with an embedding application's prefix.
    :param api_key: Default: the environment variable ``ASTRBOT_KEY``.
    :param retry_s: Seconds for which to retry without any progress.
    :param read_timeout_s: Seconds without data after which a connection is closed. The server sends
        heartbeats.
    :param http: Your own httpx client, for proxies and certificates. It is not closed.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        retry_s: float = 120.0,
        read_timeout_s: float = 60.0,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        if http is None and not base_url.lower().startswith(("http://", "https://")):
            raise ValueError(f"the base URL must begin with http:// or https://: {base_url}")
        self._base = base_url.rstrip("/").removesuffix("/api/v1") + "/api/v1"
        self._key = os.environ.get("ASTRBOT_KEY", "") if api_key is None else api_key
        self._retry_s = retry_s
        self._own_http = http is None
        timeout = httpx.Timeout(read_timeout_s, connect=10.0)
        self._http = (
            http if http is not None else httpx.AsyncClient(timeout=timeout, mounts=_DIRECT)
        )
        self._repeats_safely: bool | None = None
        self.sessions = AsyncSessions(self)
        self.files = AsyncFiles(self)
        self.runs = AsyncRuns(self)
        self.im = AsyncIm(self)
        self.keys = AsyncKeys(self)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._own_http:
            await self._http.aclose()

    def chat(
        self,
        message: Message,
        *,
        username: str | None = None,
        session_id: str | None = None,
        config_id: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        streaming: bool | None = None,
        idempotency_key: str = "",
        **options: Any,
    ) -> AsyncChatStream:
        """Send a message to the agent. The request is sent when you read the stream.

        :param message: A text, or a list of segments.
        :param username: The user's name. Optional if the key is bound to a username.
        :param idempotency_key: Your own key, if a restarted program must not send the message
            twice. By default, each call generates one.
        :param options: Further fields of the request.
        """
        fields = {
            "session_id": session_id, "config_id": config_id, "selected_provider": provider,
            "selected_model": model, "enable_streaming": streaming, **options,
        }  # fmt: skip
        body = build_body(message, cast(Any, username), fields)
        turn = Turn(
            body, username=username or "", idempotency_key=idempotency_key, retry_s=self._retry_s
        )
        return AsyncChatStream(self, turn)

    async def list_configs(self) -> list[dict[str, Any]]:
        """Return the configs that a chat can choose."""
        data = await self.request("GET", "/configs")
        return cast("list[dict[str, Any]]", data["configs"])

    async def inbox(
        self, username: str | None = None, *, after: int | None = None
    ) -> AsyncIterator[Event]:
        """Yield every new message of all sessions of a username, endlessly.

        :param after: Number of the last known message.
        """
        backoff = Backoff(self._retry_s)
        while True:
            headers = {"Accept": "text/event-stream"}
            if after is not None:
                headers["Last-Event-ID"] = str(after)
            turn = Turn(None)
            wait_s: float | None = None
            cause: Exception | None = None
            try:
                async with self._open(
                    "GET", "/chat/inbox", query={"username": username}, headers=headers
                ) as answer:
                    if not _is_stream(answer):
                        error = read_error(
                            answer.status_code, answer.headers, await answer.aread(), "GET inbox"
                        )
                        wait_s = _wait_after(error, backoff)
                    else:
                        async for chunk in answer.aiter_bytes():
                            for event in turn.feed(chunk):
                                backoff.reset()
                                if isinstance(event, InboxOpened):
                                    after = event.after if after is None else after
                                if isinstance(event, InboxMessage):
                                    after = event.number
                                yield event
            except _FINAL:
                raise
            except _BREAKS as error:
                cause = error
            if wait_s is None:
                wait_s = backoff.next_wait_s()
            if wait_s is None:
                raise ConnectionLost(f"the inbox cannot be reached: {cause}") from cause
            await async_sleep(wait_s)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        idempotency_key: str = "",
    ) -> Any:
        """Send a request and return ``data`` of its response.

        Safe requests are retried: ``GET``, ``DELETE``, and others with an idempotency key.

        :param path: Path below ``/api/v1``.
        :raises ApiError: with the code of the response.
        """
        answer = await self._send(
            method, path, query=query, body=body, idempotency_key=idempotency_key
        )
        return read_data(answer.content)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        idempotency_key: str = "",
        files: Any = None,
    ) -> httpx.Response:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        backoff = Backoff(self._retry_s)
        while True:
            try:
                answer = await self._http.request(
                    method,
                    self._base + path,
                    params=_present(query),
                    headers=self._headers(headers),
                    **({"json": body} if body is not None else {}),
                    **({"files": files()} if files is not None else {}),
                )
            except _FINAL:
                raise
            except _BREAKS as error:
                self._note(None)
                again = method != "POST" or isinstance(error, _NOT_SENT)
                if not again and idempotency_key:
                    again = await self._supports_idempotency()
                wait_s = backoff.next_wait_s() if again else None
                if wait_s is None:
                    raise ConnectionLost(
                        f"{method} {path}: {str(error) or type(error).__name__}"
                    ) from error
                await async_sleep(wait_s)
                continue
            self._note(answer)
            refusal = read_error(
                answer.status_code, answer.headers, answer.content, f"{method} /api/v1{path}"
            )
            if refusal is None:
                return answer
            await async_sleep(_wait_after(refusal, backoff))

    def _headers(self, more: Mapping[str, str]) -> dict[str, str]:
        headers = {"User-Agent": _USER_AGENT, "Accept": "application/json", **more}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers

    def _open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str],
    ) -> Any:
        """Return the context manager of a streamed response."""
        return self._http.stream(
            method, self._base + path, params=_present(query), headers=self._headers(headers),
            **({"json": body} if body is not None else {}),
        )  # fmt: skip

    def _note(self, answer: httpx.Response | None) -> None:
        # This server always sends the header, AstrBot never does.
        if answer is not None and "x-request-id" in answer.headers:
            self._repeats_safely = True

    async def _supports_idempotency(self) -> bool:
        """Return whether the server supports Idempotency-Key. AstrBot does not."""
        if self._repeats_safely is None:
            answer = await self._send_probe()
            self._repeats_safely = answer is not None and "x-request-id" in answer.headers
            if answer is None:
                self._repeats_safely = None
                return True  # unreachable: the caller retries and asks again
        return self._repeats_safely

    async def _send_probe(self) -> httpx.Response | None:
        try:
            return await self._http.get(self._base + "/keys/self", headers=self._headers({}))
        except _BREAKS:
            return None


class AsyncChatStream:
    """The stream of a turn. Iterate over its events or request its text.

    It reconnects automatically. Closing it does not stop the turn; call :meth:`stop` instead.
    """

    def __init__(self, client: AsyncClient, turn: Turn) -> None:
        self._client, self._turn = client, turn
        # The turn may have parsed more events than the loop has received.
        self._last_number = turn.last_number
        self._events = self._read()

    @property
    def reply(self) -> Reply:
        """The reply so far."""
        return self._turn.reply

    @property
    def last_event_id(self) -> int | None:
        """Number of the last event that the loop received.

        Pass it to :meth:`AsyncRuns.resume` to continue after it.
        """
        return self._last_number

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event: Event = await self._events.__anext__()
        return event

    async def __aenter__(self) -> AsyncChatStream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection. The turn continues on the server."""
        await self._events.aclose()

    async def final(self) -> Reply:
        """Read to the end and return the reply.

        :raises TurnFailed: if the turn ended with an error.
        """
        async for _ in self:
            pass
        self._turn.raise_failure()
        return self.reply

    async def text(self) -> str:
        """Read to the end and return the whole text.

        :raises TurnFailed: if the turn ended with an error.
        """
        reply = await self.final()
        return reply.text

    async def text_deltas(self) -> AsyncIterator[str]:
        """Yield the pieces of the reply's text.

        :raises TurnFailed: if the turn ended with an error.
        """
        async for event in self:
            if isinstance(event, TextDelta) and not event.pushed:
                yield event.text
        self._turn.raise_failure()

    async def stop(self) -> int:
        """Stop the turn and return the number of stopped turns. Its stream ends with the text so
        far.
        """
        if not self.reply.run_id:
            return 0
        return await self._client.runs.stop(self.reply.run_id, username=self._turn.username or None)

    async def decide(
        self, approval_id: str, decision: str, *, arguments: Any = None, comment: str | None = None
    ) -> None:
        """Decide a pending tool call like :meth:`AsyncRuns.decide`, then continue the loop.

        If the loop has already ended, start it again.
        """
        await self._client.runs.decide(
            self.reply.run_id, approval_id, decision, username=self._turn.username or None,
            arguments=arguments, comment=comment,
        )  # fmt: skip
        if self._turn.ended:
            self._turn.ended, self._events = False, self._read()
        else:
            self._turn.decided = True

    async def _read(self) -> Any:
        turn, client = self._turn, self._client
        while not turn.has_ended():
            call = turn.next_call()
            cause: Exception | None = None
            try:
                async with client._open(
                    call.method, call.path, query=call.query, body=call.body, headers=call.headers
                ) as answer:
                    client._note(answer)
                    if not _is_stream(answer):
                        wait_s = turn.handle_rejection(
                            answer.status_code, answer.headers, await answer.aread(), call
                        )
                        await async_sleep(wait_s)
                        continue
                    async for chunk in answer.aiter_bytes():
                        for event in turn.feed(chunk):
                            if event.number is not None:
                                self._last_number = event.number
                            yield event
            except _FINAL:
                raise
            except _BREAKS as error:
                cause = error
            if turn.has_ended():
                return
            await self._check_retry(call.method, cause)
            await async_sleep(turn.handle_disconnect(cause))

    async def _check_retry(self, method: str, cause: Exception | None) -> None:
        """Raise if the first question may have arrived, so that a retry could ask twice."""
        if method != "POST" or self.reply.run_id or isinstance(cause, _NOT_SENT):
            return
        if not (self._turn.repeatable and await self._client._supports_idempotency()):
            raise ConnectionLost(
                "the connection broke before the answer; this server may ask the model twice, so "
                f"the message is not sent again: {cause}"
            ) from cause


class AsyncRuns:
    """Runs, by id."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def get(self, run_id: str, *, username: str | None = None) -> dict[str, Any]:
        """Return the status and result of a run."""
        path = f"/chat/runs/{_quote(run_id)}"
        return cast(
            "dict[str, Any]", await self._client.request("GET", path, query={"username": username})
        )

    def resume(
        self, run_id: str, *, username: str | None = None, after: int | None = None
    ) -> AsyncChatStream:
        """Return the stream of a run after the event number ``after``, or from the beginning."""
        turn = Turn(
            None, username=username or "", run_id=run_id, after=after, retry_s=self._client._retry_s
        )
        return AsyncChatStream(self._client, turn)

    async def stop(self, run_id: str, *, username: str | None = None) -> int:
        """Stop a run and return the number of stopped runs."""
        path = f"/chat/runs/{_quote(run_id)}/stop"
        data = await self._client.request("POST", path, body=_present({"username": username}))
        return int(data["stopped_count"])

    async def decide(
        self,
        run_id: str,
        approval_id: str,
        decision: str,
        *,
        username: str | None = None,
        arguments: Any = None,
        comment: str | None = None,
    ) -> dict[str, Any]:
        """Decide a pending tool call. The run continues after the last decision.

        :param decision: ``approve``, ``reject``, or ``edit`` with the ``arguments`` to use.
        :param comment: Shown to the model.
        """
        path = f"/chat/runs/{_quote(run_id)}/approvals/{_quote(approval_id)}"
        body = {
            "decision": decision,
            "username": username,
            "arguments": arguments,
            "comment": comment,
        }
        return cast("dict[str, Any]", await self._client.request("POST", path, body=_present(body)))


class AsyncSessions:
    """Sessions."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def list(
        self, username: str | None = None, *, order_by: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the sessions of a username, newest first. Pages are fetched on demand."""
        page, seen = 1, 0
        while True:
            query = {"username": username, "page": page, "page_size": 100, "order_by": order_by}
            data = await self._client.request("GET", "/chat/sessions", query=query)
            for session in data["sessions"]:
                yield session
            seen += len(data["sessions"])
            if not data["sessions"] or seen >= data["total"]:
                return
            page += 1

    async def get(self, session_id: str, *, username: str | None = None) -> dict[str, Any]:
        """Return a session with its newest messages and its active runs."""
        path = f"/chat/sessions/{_quote(session_id)}"
        return cast(
            "dict[str, Any]", await self._client.request("GET", path, query={"username": username})
        )

    async def messages(
        self, session_id: str, *, username: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the messages of a session, oldest first."""
        path, cursor = f"/chat/sessions/{_quote(session_id)}/messages", None
        while True:
            query = {"username": username, "cursor": cursor, "limit": 100, "order": "asc"}
            data = await self._client.request("GET", path, query=query)
            for message in data["messages"]:
                yield message
            cursor = data.get("next_cursor")
            if cursor is None:
                return

    async def create(
        self,
        username: str | None = None,
        *,
        display_name: str | None = None,
        config_id: str | None = None,
    ) -> dict[str, Any]:
        """Create a session."""
        body = {"username": username, "display_name": display_name, "config_id": config_id}
        return cast(
            "dict[str, Any]",
            await self._client.request("POST", "/chat/sessions/new", body=_present(body)),
        )

    async def rename(
        self, session_id: str, display_name: str, *, username: str | None = None
    ) -> None:
        """Change the title of a session."""
        body = {"username": username, "display_name": display_name}
        await self._client.request(
            "PATCH", f"/chat/sessions/{_quote(session_id)}", body=_present(body)
        )

    async def delete(self, session_id: str, *, username: str | None = None) -> None:
        """Delete a session with its messages."""
        path = f"/chat/sessions/{_quote(session_id)}"
        await self._client.request("DELETE", path, query={"username": username})

    async def stop(self, session_id: str, *, username: str | None = None) -> int:
        """Stop the turns of a session and return their number."""
        path = f"/chat/sessions/{_quote(session_id)}/stop"
        data = await self._client.request("POST", path, body=_present({"username": username}))
        return int(data["stopped_count"])

    def regenerate(
        self, session_id: str, message_id: int, *, username: str | None = None, **options: Any
    ) -> AsyncChatStream:
        """Regenerate the reply to a message. The new reply replaces the old one."""
        path = f"/chat/sessions/{_quote(session_id)}/messages/{message_id}/regenerate"
        turn = Turn(
            _present({"username": username, **options}), username=username or "", path=path,
            retry_s=self._client._retry_s,
        )  # fmt: skip
        return AsyncChatStream(self._client, turn)


class AsyncFiles:
    """Attachments."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def upload(
        self,
        source: str | Path | bytes | BinaryIO,
        *,
        filename: str | None = None,
        progress: Progress | None = None,
        upload_id: str | None = None,
    ) -> dict[str, Any]:
        """Upload a file and return ``{"attachment_id", "filename", "type"}``.

        The file is streamed. Retries store it only once. Files above 8 MiB are sent in chunks if
        the server supports it, and only missing chunks are sent again.

        :param source: A path, bytes, or a file that can be read twice.
        :param upload_id: ``upload_id`` of an error, to resume its chunked upload, even in another
            program.
        """
        with open_source(source, filename) as (name, file, size):
            begun = None
            if upload_id is not None or size > CHUNKED_ABOVE_BYTES:
                begun = await self._begin_chunks(name, file, size, upload_id)
            if begun is not None:
                try:
                    return await self._send_chunks(begun, file, size, progress)
                except BaseException as error:
                    error.upload_id = begun["upload_id"]  # type: ignore[attr-defined]
                    raise

            def build() -> dict[str, Any]:
                file.seek(0)
                return {"file": (name, CountingFile(file, size, progress))}

            answer = await self._client._send(
                "POST", "/file", files=build, idempotency_key=str(uuid.uuid4())
            )
        return cast("dict[str, Any]", read_data(answer.content))

    async def _begin_chunks(
        self, name: str, file: BinaryIO, size: int, upload_id: str | None
    ) -> dict[str, Any] | None:
        """Return a chunked upload with its received chunks, or None if the server has no such
        uploads.
        """
        if upload_id is not None:
            status = await self._post_once("/files/upload/status", {"upload_id": upload_id})
            return {"upload_id": upload_id, **status}
        body = {"filename": name, "total_size": size, "sha256": hash_file(file)}
        try:
            begun = await self._post_once("/files/upload/init", body)
        except ApiError as error:
            if error.status in (404, 405):  # AstrBot before 4.29
                return None
            raise
        return {**begun, "received_chunks": []}

    async def _send_chunks(
        self, begun: dict[str, Any], file: BinaryIO, size: int, progress: Progress | None
    ) -> dict[str, Any]:
        """Send the missing chunks and complete the upload."""
        upload_id, length = begun["upload_id"], begun["chunk_size"]
        received = set(begun["received_chunks"])
        done = sum(min(length, size - number * length) for number in received)
        if done and progress is not None:
            progress(done, size)
        for number in range(begun["total_chunks"]):
            if number in received:
                continue
            file.seek(number * length)
            chunk = file.read(length)
            form = {
                "upload_id": (None, upload_id), "chunk_index": (None, str(number)),
                "chunk": ("chunk", chunk),
            }  # fmt: skip
            await self._client._send(
                "POST", "/files/upload/chunk",
                files=lambda form=form: form, idempotency_key=str(uuid.uuid4()),
            )  # fmt: skip
            done += len(chunk)
            if progress is not None:
                progress(done, size)
        return await self._post_once("/files/upload/complete", {"upload_id": upload_id})

    async def _post_once(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        data = await self._client.request(
            "POST", path, body=body, idempotency_key=str(uuid.uuid4())
        )
        return cast("dict[str, Any]", data)

    async def download(
        self,
        attachment_id: str,
        to: str | Path | BinaryIO | None = None,
        *,
        progress: Progress | None = None,
    ) -> bytes:
        """Download an attachment. The download resumes after a broken connection.

        :param to: Target of the bytes, or None to return them.
        :returns: The bytes; empty with ``to``.
        """
        backoff, done, total, tag = Backoff(self._client._retry_s), 0, cast(Optional[int], None), ""
        with open_target(to) as (file, start):
            while total is None or done < total:
                headers = {}
                if done and tag:
                    headers = {"Range": f"bytes={done}-", "If-Range": tag}
                cause: Exception | None = None
                wait_s: float | None = None
                try:
                    async with self._client._open(
                        "GET", "/file", query={"attachment_id": attachment_id}, headers=headers
                    ) as answer:
                        if answer.status_code not in (200, 206) or _is_json_error(answer):
                            error = read_error(
                                answer.status_code, answer.headers, await answer.aread(),
                                "GET /api/v1/file",
                            )  # fmt: skip
                            wait_s = _wait_after(error, backoff)
                        else:
                            if answer.status_code == 200:  # the whole file from its start
                                done = 0
                                file.seek(start)
                                file.truncate()
                            tag = answer.headers.get("etag", "")
                            length = answer.headers.get("content-length")
                            total = done + int(length) if length is not None else None
                            async for chunk in answer.aiter_raw():
                                file.write(chunk)
                                done += len(chunk)
                                backoff.reset()
                                if progress is not None:
                                    progress(done, total)
                            if total is None:
                                break
                            continue
                except _FINAL:
                    raise
                except _BREAKS as error:
                    cause = error
                if wait_s is None:
                    wait_s = backoff.next_wait_s()
                if wait_s is None:
                    raise ConnectionLost(f"the download broke off: {cause}") from cause
                await async_sleep(wait_s)
            return file.getvalue() if to is None else b""  # type: ignore[attr-defined]

    async def get(self, attachment_id: str) -> dict[str, Any]:
        """Return the metadata of an attachment."""
        return cast(
            "dict[str, Any]", await self._client.request("GET", f"/files/{_quote(attachment_id)}")
        )

    async def delete(self, attachment_id: str, *, force: bool = False) -> None:
        """Delete an attachment. With ``force``, also delete one that a message uses."""
        query = {"force": "true"} if force else None
        await self._client.request("DELETE", f"/files/{_quote(attachment_id)}", query=query)


class AsyncIm:
    """Messages to messengers."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def send(self, umo: str, message: Message) -> dict[str, Any]:
        """Send a message to a conversation on a messenger. Retries do not send it twice."""
        body = {"umo": umo, "message": message}
        return cast(
            "dict[str, Any]",
            await self._client.request(
                "POST", "/im/message", body=body, idempotency_key=str(uuid.uuid4())
            ),
        )

    async def list_bots(self) -> list[str]:
        """Return the ids of the bots."""
        data = await self._client.request("GET", "/im/bots")
        return cast("list[str]", data["bot_ids"])


class AsyncKeys:
    """The limits of the client's own key, and session keys."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def get_self(self) -> dict[str, Any]:
        """Return the key's scopes, rules and remaining limits."""
        return cast("dict[str, Any]", await self._client.request("GET", "/keys/self"))

    async def create_session_key(self, username: str, **options: Any) -> dict[str, Any]:
        """Create a short-lived key for a browser or a phone. ``api_key`` contains its secret."""
        body = {"username": username, **options}
        return cast(
            "dict[str, Any]", await self._client.request("POST", "/keys/session", body=body)
        )


def _present(values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (values or {}).items() if value is not None}


def _quote(text: str) -> str:
    return quote(text, safe="")


def _is_stream(answer: httpx.Response) -> bool:
    kind = answer.headers.get("content-type", "")
    return answer.status_code == 200 and kind.startswith("text/event-stream")


def _is_json_error(answer: httpx.Response) -> bool:
    """Return whether a download is an error of AstrBot, which has status 200."""
    kind = answer.headers.get("content-type", "")
    return kind.startswith("application/json") and "content-disposition" not in answer.headers


def _wait_after(error: ApiError | None, backoff: Backoff) -> float:
    """Return the seconds to wait before a rejected request is retried.

    :raises ApiError: if a retry is useless.
    """
    if error is None:
        raise UnsupportedError(200, "", "the server's answer is not what this route promises")
    wait_s = backoff.next_wait_s(error.retry_after_s or 0.5) if error.temporary else None
    if wait_s is None:
        raise error
    return wait_s
