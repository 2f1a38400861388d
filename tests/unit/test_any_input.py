"""Whatever comes in: the parsers answer, or refuse in their own words."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from astrbot_api.agentconfig import read_config
from astrbot_api.errors import ApiError, SettingsError
from astrbot_api.events import encode_frame
from astrbot_api.im.umo import parse_umo
from astrbot_api.messages import parse_chat_message, parse_im_message

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
        # What was taken is taken again as it is stored.
        again = [one.to_wire() for one in segments]
        assert [one.to_wire() for one in parse(again, max_chars=1000, max_segments=10)] == again


@given(st.text() | st.lists(st.text(), min_size=3, max_size=5).map(":".join))
def test_any_umo_is_parsed_or_refused(text: str) -> None:
    try:
        umo = parse_umo(text)
    except ApiError:
        return
    assert parse_umo(str(umo)) == umo


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["type", "data", "message_id"]), st.text(), max_size=3))
def test_any_event_is_one_frame_that_clients_read_back(event: dict[str, Any]) -> None:
    frame = encode_frame(event, 7)
    assert frame.endswith("id: 7\n\n")
    assert parse_events(frame.encode()) == [event]


@settings(deadline=None)
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
