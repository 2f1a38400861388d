"""For any input, parsers return a result or raise their own error."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrbot_api import events
from astrbot_api.config.agents import ProviderConfig, read_config
from astrbot_api.deliveries.webhook_file import read_webhooks
from astrbot_api.errors import ApiError, ProviderError, SettingsError
from astrbot_api.events import encode_event
from astrbot_api.http.openai.reading import read_messages
from astrbot_api.http.sse import frame
from astrbot_api.im.botfile import read_bot, read_bot_tables
from astrbot_api.im.registry import AdapterTypes
from astrbot_api.im.umo import parse_umo
from astrbot_api.keys.rules import KeyRules, read_rules
from astrbot_api.messages import Media, parse_chat_message, parse_im_message, resolve_media
from astrbot_api.providers.chunks import ChunkReader, Reading
from astrbot_api.providers.endpoint import Endpoint
from astrbot_api.providers.key_ring import KeyRing
from astrbot_api.providers.sse import SSEParser
from astrbot_api.providers.think import DEFAULT_TAGS
from astrbot_api.upstream.reading import AnswerReader

from ..servers import parse_events

KEYS = st.sampled_from(["type", "text", "attachment_id", "message_id", "filename", "path"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(["plain", "reply", "image", "record", "file", "video"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_any_message_is_parsed_or_refused(value: Any) -> None:
    for parse in (parse_chat_message, parse_im_message):
        try:
            segments = parse(value, max_chars=1000, max_segments=10)
        except ApiError:
            continue
        # Accepted segments are also accepted in their stored form.
        files = {
            one.attachment_id: replace(one, type="image", filename="a.png")
            for one in segments
            if isinstance(one, Media)
        }
        again = [one.to_wire() for one in resolve_media(segments, files)]
        assert [one.to_wire() for one in parse(again, max_chars=1000, max_segments=10)] == again


@given(st.text() | st.lists(st.text(), min_size=3, max_size=5).map(":".join))
def test_any_umo_is_parsed_or_refused(text: str) -> None:
    try:
        umo = parse_umo(text)
    except ApiError:
        return
    assert parse_umo(str(umo)) == umo


@given(st.dictionaries(st.sampled_from(["type", "data", "message_id"]), st.text(), max_size=3))
def test_any_event_is_one_frame_that_clients_read_back(event: dict[str, Any]) -> None:
    shown = frame(encode_event(event), 7)
    assert shown.endswith(b"id: 7\n\n")
    assert parse_events(shown) == [event]


@given(
    st.text(max_size=80)
    | st.dictionaries(
        st.sampled_from(["name", "provider", "agent", "tools", "mcp"]), JSON, max_size=3
    ).map(lambda value: "\n".join(f"{key} = {json.dumps(one)}" for key, one in value.items()))
)
def test_any_config_file_is_read_or_refused_in_one_line(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.toml"
        path.write_bytes(text.encode("utf-8", "replace"))
        refusal = ""
        try:
            read_config(path, "configs/any.toml")
        except SettingsError as error:
            refusal = str(error)
        assert not refusal or "configs/any.toml" in refusal
        assert folder not in refusal


def objects(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects in which some of these keys have any value."""
    return st.dictionaries(st.sampled_from(keys), JSON, max_size=len(keys))


def lists_or_any(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner | JSON, max_size=3) | JSON


CALLS = lists_or_any(objects("id", "index", "name", "args", "result", "ts", "finished_ts"))
PARTS = lists_or_any(
    st.fixed_dictionaries({"type": st.just("tool_call"), "tool_calls": CALLS})
    | st.fixed_dictionaries({"type": JSON, "text": JSON, "think": JSON, "attachment_id": JSON})
)


@given(
    st.fixed_dictionaries({"message": PARTS}, optional={"reasoning": JSON, "agent_stats": JSON}),
    st.booleans(),
)
def test_any_answer_that_astrbot_stored_is_read(content: dict[str, Any], nested: bool) -> None:
    event = {"type": "run_snapshot", "data": {"content": content} if nested else content}
    list(AnswerReader().read(event))


@given(
    st.lists(
        st.fixed_dictionaries(
            {"choices": lists_or_any(
                st.fixed_dictionaries({"index": JSON}, optional={
                    "delta": objects("content", "images", "audio", "reasoning_details"),
                    "message": st.fixed_dictionaries({"content": PARTS, "tool_calls": CALLS}),
                    "finish_reason": JSON,
                })
            )},
            optional={"usage": JSON, "error": JSON, "model": JSON, "data": JSON},
        ),
        max_size=3,
    )
)  # fmt: skip
def test_any_chunks_are_an_answer_or_an_error_of_the_provider(chunks: list[Any]) -> None:
    config = ProviderConfig("p", "openai", base_url="http://127.0.0.1:1")
    reading = Reading("p", "p", "m", DEFAULT_TAGS, frozenset(), "", True)
    reader = ChunkReader(reading, Endpoint(config, KeyRing([])))
    with suppress(ProviderError):
        for chunk in chunks:
            reader.read(json.dumps(chunk).encode())
        reader.finish()
        reader.check_answered()


LINES = st.sampled_from(
    [
        b"data: a",
        b"data:b",
        b"data",
        b"data: ",
        b": comment",
        b"event: x",
        b"\xef\xbb\xbf",
        b"",
        b"retry: 3",
    ]
)


@given(
    st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=12),
    st.data(),
)
def test_an_endpoints_stream_is_read_the_same_however_it_is_cut(
    lines: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(line + end for line, end in lines)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8).map(sorted))
    whole, pieces = SSEParser(), SSEParser()
    expected = whole.feed(stream) + whole.finish()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += pieces.feed(stream[start:end])
    assert found + pieces.finish() == expected
    # As in the standard: an event is the data lines between two blank lines. (A line without a
    # field is returned as an event, because relays report errors like this.)
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events = []
    for block in (text + b"\n").split(b"\n\n"):
        values = [
            line[5:].removeprefix(b" ")
            for line in block.split(b"\n")
            if line.startswith(b"data:") or line == b"data"
        ]
        if values:
            events.append(b"\n".join(values))
    assert expected == events


MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant", "tool", "x"])},
        optional={
            "content": JSON
            | st.lists(
                st.fixed_dictionaries(
                    {"type": st.sampled_from(["text", "image_url", "input_audio", "file"])},
                    optional={
                        "text": SCALARS,
                        "image_url": JSON | st.just({"url": "data:image/png;base64,QQ=="}),
                        "input_audio": st.just({"data": "QQ==", "format": "wav"}) | JSON,
                        "file": st.just({"file_data": "QQ="}) | JSON,
                    },
                ),
                max_size=3,
            )
        },
    ),
    max_size=3,
)


@given(JSON | MESSAGES)
def test_any_conversation_of_openais_clients_is_read_or_refused(value: Any) -> None:
    try:
        segments, _ = read_messages(
            value, lambda content, name: "id", max_chars=1000, max_segments=100
        )
    except ApiError:
        return
    assert segments


RULES = st.dictionaries(
    st.sampled_from([*KeyRules.__dataclass_fields__, "unknown"]),
    SCALARS | st.lists(SCALARS, max_size=3),
    max_size=4,
)


@given(JSON | RULES)
def test_any_rules_of_a_key_are_read_or_refused(value: Any) -> None:
    try:
        rules = read_rules(value)
    except ApiError:
        return
    assert read_rules(rules.to_json()) == rules


TABLES = st.dictionaries(
    st.sampled_from(["id", "type", "url", "secret", "events", "allow", "token", "enabled"]),
    SCALARS
    | st.lists(SCALARS, max_size=2)
    | st.sampled_from(["webhook", "telegram", "http://127.0.0.1:1/", "a secret of sixteen"]),
    max_size=6,
)


@given(st.sampled_from(["bot", "webhook"]), st.text(max_size=40) | TABLES)
def test_any_file_of_bots_or_webhooks_is_read_or_refused_in_one_line(
    kind: str, value: str | dict[str, Any]
) -> None:
    text = value
    if isinstance(value, dict):
        # TOML has no null, so such a file is rejected.
        text = f"[[{kind}]]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in value.items())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{kind}s.toml"
        path.write_bytes(str(text).encode("utf-8", "replace"))
        refusal = ""
        try:
            if kind == "webhook":
                read_webhooks(path)
            else:
                for table in read_bot_tables(path):
                    read_bot(table, AdapterTypes({}))
        except SettingsError as error:
            refusal = str(error)
        assert "\n" not in refusal
        assert folder not in refusal


@pytest.mark.parametrize("said", ['"' * 100_000, "9" * 600_000, "\\\n" * 70_000, "汉" * 200_000])
def test_a_call_that_is_too_long_for_a_line_stays_json(said: str) -> None:
    for event, name in (
        (events.tool_call_result("r", {"id": "c", "ts": 1.0, "result": said}), "result"),
        (events.tool_call("r", {"id": "c", "ts": 1.0, "name": "n", "args": said}), "args"),
        (events.tool_call("r", {"id": "c", "ts": 1.0, "name": "n", "args": {"a": said}}), "args"),
    ):
        line = encode_event(event)
        assert len(line) < events.MAX_LINE_BYTES
        shown = orjson.loads(line)
        assert shown["truncated"] is True
        call = orjson.loads(shown["data"])
        assert call["id"] == "c"
        whole = orjson.loads(event["data"])[name]
        assert (whole if isinstance(whole, str) else orjson.dumps(whole).decode()).startswith(
            call[name]
        )
        assert len(call[name]) > 10_000
