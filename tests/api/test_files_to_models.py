"""Common file types reach the model in a supported format from every entry point."""

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
from astrbot_api.testing import ScriptedApp, make_app
from astrbot_api.testing.fake_platform import FakePlatform, FakeRequest, answer_json

from .. import samples
from .messengers import HookRequest, OneBot, Telegram

#: A file -> its bytes, the type of its message and its name.
FILES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "photo": (lambda: samples.make_turned(6), "image", "IMG_0001.jpg"),
    "opus": (lambda: samples.make_sound("ogg", "libopus"), "record", "voice.ogg"),
    "amr": (samples.make_amr, "record", "voice.amr"),
    "silk": (samples.make_silk, "record", "voice.silk"),
    "docx": (samples.make_docx, "file", "report.docx"),
}


def send_by_api(app: ScriptedApp, data: bytes, kind: str, name: str) -> None:
    answer = app.client.post(
        "/api/v1/file", headers={"X-API-Key": app.key}, data={"file": (io.BytesIO(data), name)}
    )
    attachment_id = answer.get_json()["data"]["attachment_id"]
    app.chat([{"type": kind, "attachment_id": attachment_id}])


def say_on_telegram(telegram: Telegram, data: bytes, kind: str, name: str) -> HookRequest:
    key = {"image": "photo", "record": "voice", "file": "document"}[kind]
    file_id = telegram.telegram.add_file(data, f"{key}/file_0{Path(name).suffix}")
    sent: Any = {"file_id": file_id, "width": 1, "height": 1, "file_name": name}
    if kind == "record":
        sent = {"file_id": file_id, "duration": 1, "mime_type": "audio/ogg"}
    update = telegram.telegram.make_update(chat_id=42, **{key: [sent] if kind == "image" else sent})
    return telegram.telegram.make_request(update, "secret")


def say_on_qq(qq: OneBot, data: bytes, kind: str, name: str) -> HookRequest:
    sent = {"type": kind, "data": {"file": name, "url": qq.qq.add_file(data, name)}}
    return qq.qq.make_request(qq.qq.make_event([sent], user_id=42))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


class Doors:
    """An application with the API and two bots, and the input of its model."""

    def __init__(self, folder: Path, config: str) -> None:
        self.seen: list[Any] = []
        self.telegram, self.qq = Telegram(), OneBot()
        self.telegram.fake.__enter__()
        self.qq.fake.__enter__()
        tables = (one.table() for one in (self.telegram, self.qq))
        names = ("telegram", "qq")
        bots = [
            one.replace('id = "bot"', f'id = "{name}"')
            for one, name in zip(tables, names, strict=True)
        ]
        (folder / "bots.toml").write_text("\n".join(bots))
        self.app = make_app(self._look, config=config, data_dir=folder, im_retry_s=0.05)

    def _look(self, messages: list[ModelMessage]) -> Iterator[Delta]:
        self.seen.append(messages[-1]["content"])
        yield TextDelta("Seen.")

    def show(self, door: str, file: str) -> tuple[str, list[dict[str, Any]]]:
        """Send a file, and return the text and the parts that the model gets."""
        make, kind, name = FILES[file]
        count = len(self.seen)
        if door == "api":
            send_by_api(self.app, make(), kind, name)
        else:
            is_qq = door == "qq"
            messenger = self.qq if is_qq else self.telegram
            already = len(messenger.fake.messages)
            say = say_on_qq if is_qq else say_on_telegram
            headers, body = say(messenger, make(), kind, name)  # type: ignore[arg-type]
            answer = self.app.client.post(f"/api/v1/hooks/{door}", headers=headers, data=body)
            assert answer.status_code in (200, 204), answer.get_data()
            messenger.fake.wait_for_messages(already + 1)
        (content,) = self.seen[count:]
        return (content, []) if isinstance(content, str) else (content[0]["text"], content[1:])

    def close(self) -> None:
        self.app.close()
        self.telegram.fake.__exit__(None, None, None)
        self.qq.fake.__exit__(None, None, None)


@pytest.fixture(scope="module")
def doors(folder: Path) -> Iterator[Doors]:
    opened = Doors(folder, 'modalities = ["text", "image", "audio"]\n[agent]\ntitles = false\n')
    yield opened
    opened.close()


DOORS = ["api", "telegram", "qq"]


@pytest.mark.parametrize("door", DOORS)
def test_a_phones_photo_reaches_the_model_upright(doors: Doors, door: str) -> None:
    _, (part,) = doors.show(door, "photo")
    head, _, body = part["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as picture:
        assert picture.size == (120, 200)
        assert not picture.getexif()


@pytest.mark.parametrize(
    ("door", "file"),
    [("telegram", "opus"), ("qq", "opus"), ("qq", "amr"), ("qq", "silk")],
)
def test_a_voice_message_reaches_the_model_as_wav(doors: Doors, door: str, file: str) -> None:
    _, (part,) = doors.show(door, file)
    assert part["input_audio"]["format"] == "wav"
    with wave.open(io.BytesIO(base64.b64decode(part["input_audio"]["data"]))) as sound:
        assert (sound.getnchannels(), sound.getframerate()) == (1, 16_000)
        assert 0.4 < sound.getnframes() / 16_000 < 0.7


@pytest.mark.parametrize("door", DOORS)
def test_a_docx_reaches_the_model_as_markdown(doors: Doors, door: str) -> None:
    text, parts = doors.show(door, "docx")
    assert parts == []
    assert "name report.docx" in text
    for one in ("# Quarterly report", "The word is marmalade.", "| pencil | 4711 |"):
        assert one in text


class Scribe(FakePlatform):
    """An endpoint with ``/audio/transcriptions``."""

    def answer(self, request: FakeRequest) -> Response:
        self.accept(request.read_fields())
        return answer_json({"text": "Good morning"})


def test_a_model_without_audio_gets_the_transcript_of_a_voice_message(tmp_path: Path) -> None:
    with Scribe() as scribe:
        table = f'[transcription]\nbase_url = "{scribe.url}/v1"\nmodel = "w"\n'
        doors = Doors(tmp_path, f"[agent]\ntitles = false\n{table}")
        try:
            for door, file in (("api", "opus"), ("telegram", "opus"), ("qq", "silk")):
                text, parts = doors.show(door, file)
                assert "<Transcript>\nGood morning\n</Transcript>" in text
                assert parts == []
        finally:
            doors.close()
