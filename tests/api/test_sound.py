"""Recordings and videos for models."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from werkzeug import Response

from astrbot_api.agent.provider import Delta, ModelMessage, TextDelta
from astrbot_api.chat.context import media, transcription
from astrbot_api.errors import Unreadable
from astrbot_api.files.reading.sound import describe, to_wav
from astrbot_api.testing import ScriptedModel
from astrbot_api.testing.fake_platform import FakePlatform, FakeRequest, answer_json

from .. import samples
from .conftest import Api
from .uploading import upload

Scripts = Callable[..., tuple[Api, ScriptedModel]]

_SEES = 'modalities = ["text", "image", "audio"]'


def say(messages: list[ModelMessage]) -> Iterator[Delta]:
    yield TextDelta("fine")


def show(
    api: Api, model: ScriptedModel, data: bytes, name: str
) -> tuple[str, list[dict[str, Any]]]:
    """Send a file, and return the text and the other parts that the model gets."""
    found = upload(api, data, name.encode())
    api.chat(
        [{"type": "plain", "text": "Q"}, {"type": "file", "attachment_id": found["attachment_id"]}]
    )
    content = model.seen[-1][-1]["content"]
    if isinstance(content, str):
        return content, []
    return content[0]["text"], content[1:]


def decode_url(part: dict[str, Any]) -> tuple[str, Image.Image]:
    head, _, body = part["image_url"]["url"].partition(",")
    return head, Image.open(io.BytesIO(base64.b64decode(body)))


SOUNDS: dict[str, Callable[[], bytes]] = {
    "voice.ogg": lambda: samples.make_sound("ogg", "libopus"),
    "voice.webm": lambda: samples.make_sound("webm", "libopus"),
    "voice.m4a": lambda: samples.make_sound("mp4", "aac"),
    "voice.flac": lambda: samples.make_sound("flac", "flac"),
    "voice.amr": samples.make_amr,
    "voice.caf": lambda: samples.make_sound("caf", "pcm_s16be"),
    "voice.aac": lambda: samples.make_sound("adts", "aac"),
    "slow.wav": lambda: samples.make_sound("wav", "adpcm_ms"),
    "voice.silk": samples.make_silk,
}


@pytest.mark.parametrize("name", SOUNDS)
def test_a_voice_message_reaches_an_audio_model_as_wav(name: str, make_scripted: Scripts) -> None:
    _, (part,) = show(*make_scripted(say, provider=_SEES), SOUNDS[name](), name)
    assert part["input_audio"]["format"] == "wav"
    with wave.open(io.BytesIO(base64.b64decode(part["input_audio"]["data"]))) as sound:
        assert (sound.getnchannels(), sound.getframerate()) == (1, 16_000)
        assert 0.4 < sound.getnframes() / 16_000 < 0.7


def test_a_recording_that_is_too_large_to_send_is_converted(
    make_scripted: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = samples.make_wav()
    for limit, rate in ((len(data), 8000), (len(data) - 1, 16_000)):
        monkeypatch.setattr(media, "MAX_SOUND_BYTES", limit)
        _, (part,) = show(*make_scripted(say, provider=_SEES), data, "voice.wav")
        with wave.open(io.BytesIO(base64.b64decode(part["input_audio"]["data"]))) as sound:
            assert sound.getframerate() == rate


def test_a_damaged_recording_is_named(make_scripted: Scripts) -> None:
    text, parts = show(
        *make_scripted(say, provider=_SEES), samples.make_sound("ogg", "libopus")[:100], "v.ogg"
    )
    assert "It could not be read: " in text
    assert parts == []


@pytest.mark.parametrize(
    "data",
    [
        # Behind the signature of an MP3: listen for a call on a UDP port.
        b"ID3\n\x01\nv=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
        b"ffconcat version 1.0\nfile other.wav\n",
    ],
    ids=["sdp", "ffconcat"],
)
def test_a_recording_opens_no_other_file_and_no_port(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.wav").write_bytes(SOUNDS["slow.wav"]())
    with pytest.raises(Unreadable):
        describe(io.BytesIO(data))
    with pytest.raises(Unreadable):
        to_wav(io.BytesIO(data), max_s=5)


class Scribe(FakePlatform):
    """An endpoint with ``/audio/transcriptions``."""

    said: Any = {"text": "Good morning"}

    def answer(self, request: FakeRequest) -> Response:
        fields = request.read_fields()
        self.accept({**fields, "authorization": request.headers.get("authorization")})
        return Response(self.said) if isinstance(self.said, str) else answer_json(self.said)


def test_a_model_without_audio_gets_the_transcript(make_scripted: Scripts) -> None:
    with Scribe() as scribe:
        endpoint = f'base_url = "{scribe.url}/v1"\nmodel = "whisper-1"\napi_key = "sk-t"\n'
        table = f"[transcription]\n{endpoint}"
        api, model = make_scripted(say, agent=f"titles = false\n{table}")
        voice = SOUNDS["voice.ogg"]()
        for _ in range(2):
            text, _ = show(api, model, voice, "voice.ogg")
            assert "<Transcript>\nGood morning\n</Transcript>" in text
        (asked,) = scribe.messages
    assert (asked["model"], asked["authorization"]) == ("whisper-1", "Bearer sk-t")
    with wave.open(io.BytesIO(asked["file"].data)) as sound:
        assert sound.getframerate() == 16_000


def test_a_failed_transcription_does_not_fail_the_turn(
    make_scripted: Scripts,
) -> None:
    with Scribe() as scribe:
        table = f'[transcription]\nbase_url = "{scribe.url}/v1"\nmodel = "w"\n'
        api, model = make_scripted(say, agent=f"titles = false\n{table}")
        scribe.fail_next(400)
        text, _ = show(api, model, SOUNDS["voice.ogg"](), "voice.ogg")
    assert "It could not be read: the model that writes recordings down failed." in text


@pytest.mark.parametrize("status", [429, 503])
def test_a_transcription_is_tried_again(
    status: int, make_scripted: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcription, "_PAUSES_S", (0.001, 0.001))
    with Scribe() as scribe:
        table = f'[transcription]\nbase_url = "{scribe.url}/v1"\nmodel = "w"\n'
        api, model = make_scripted(say, agent=f"titles = false\n{table}")
        scribe.fail_next(status, times=2)
        text, _ = show(api, model, SOUNDS["voice.ogg"](), "voice.ogg")
    assert "Good morning" in text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"text": "<|zh|><|NEUTRAL|><|Speech|><|woitn|>早上好"}, "<Transcript>\n早上好\n"),
        ("早上好", "<Transcript>\n早上好\n"),
        ("<!DOCTYPE html><title>Console</title>", "could not be read"),
    ],
)
def test_an_odd_transcript_is_read(said: Any, shown: str, make_scripted: Scripts) -> None:
    with Scribe() as scribe:
        scribe.said = said
        table = f'[transcription]\nbase_url = "{scribe.url}/v1"\nmodel = "w"\n'
        api, model = make_scripted(say, agent=f"titles = false\n{table}")
        text, _ = show(api, model, SOUNDS["voice.ogg"](), "voice.ogg")
    assert shown in text


def test_a_video_is_described_and_shown_if_the_config_enables_it(
    make_scripted: Scripts,
) -> None:
    agent = "titles = false\nvideo_frames = 2"
    text, parts = show(
        *make_scripted(say, provider=_SEES, agent=agent), samples.make_video(), "v.mp4"
    )
    assert "[It is 2 seconds long, 64 x 48 pixels.]" in text
    colors = [decode_url(one)[1].getpixel((32, 24)) for one in parts]
    assert [("red" if c[0] > c[2] else "blue") for c in colors] == ["red", "blue"]  # type: ignore[index]


def test_a_video_of_a_phone_is_shown_upright(make_scripted: Scripts) -> None:
    api, model = make_scripted(say, provider=_SEES, agent="titles = false\nvideo_frames = 1")
    _, parts = show(api, model, samples.make_video(is_turned=True), "v.mp4")
    picture = decode_url(parts[0])[1]
    assert picture.size == (48, 64)
    red, green, blue = picture.getpixel((40, 8))  # type: ignore[misc]
    assert green > 2 * max(red, blue)


def test_a_long_recording_that_looks_like_a_video_reaches_an_audio_model(
    make_scripted: Scripts,
) -> None:
    data = samples.make_sound("mp4", "alac", 10.0)  # as phones write it: the tracks are at the end
    text, (part,) = show(*make_scripted(say, provider=_SEES), data, "Recording.m4a")
    assert "type video/mp4" in text
    assert part["input_audio"]["format"] == "wav"
