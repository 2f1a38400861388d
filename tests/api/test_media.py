"""Files of users are stored and shown to the model; tools send files back."""

from __future__ import annotations

import base64
import io
import random
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from PIL import Image

from astrbot_api import Tool, ToolContext
from astrbot_api.agent.provider import Delta, ModelMessage, TextDelta, ToolCallDelta
from astrbot_api.chat.context import media, prepared_files
from astrbot_api.files.reading.reader import EXTRACT_TEXT
from astrbot_api.mcp.tools import make_tools
from astrbot_api.runtime import memory
from astrbot_api.runtime.aside import Limits
from astrbot_api.testing import ScriptedModel

from .. import samples
from ..servers import parse_events
from ..unit.test_mcp_tools import ECHO, SERVER, Answers, offer, picture, text
from ..waiting import wait_for
from .conftest import Api

Scripts = Callable[..., tuple[Api, ScriptedModel]]

_SEES = 'modalities = ["text", "image", "audio"]'


def say(messages: list[ModelMessage]) -> Iterator[Delta]:
    yield TextDelta("fine")


def png(width: int = 8, height: int = 8, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, (width, height), "red").save(out, "PNG")
    return out.getvalue()


def make_pdf(text: str) -> bytes:
    """Return a PDF of one page with one line."""
    stream = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R"
        "/Resources<</Font<</F1 5 0 R>>>>>>",
        f"<</Length {len(stream)}>>stream\n{stream}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    out, offsets = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n"
    out += "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    out += f"trailer<</Root 1 0 R/Size {len(objects) + 1}>>\nstartxref\n{start}\n%%EOF\n"
    return out.encode()


WAV = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data\x00\x00\x00\x00"  # noqa: E501


def upload(api: Api, data: bytes, name: str) -> str:
    return api.state.files.store_bytes(data, name).attachment_id


def part(attachment_id: str, kind: str = "file") -> dict[str, str]:
    return {"type": kind, "attachment_id": attachment_id}


def content_of(model: ScriptedModel) -> Any:
    """Return the last user message that the model got."""
    return model.seen[-1][-1]["content"]


def test_a_vision_model_gets_the_picture(make_scripted: Scripts) -> None:
    api, model = make_scripted(say, provider=_SEES)
    api.chat([{"type": "plain", "text": "what is it?"}, part(upload(api, png(), "dot.png"))])
    text, picture = content_of(model)
    assert text["text"].startswith("what is it?\n[Image Attachment: name dot.png, type image/png")
    assert picture["type"] == "image_url"
    head, _, body = picture["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as shown:
        assert (shown.size, shown.getpixel((4, 4))) == ((8, 8), (255, 0, 0))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_large_picture_is_scaled_down(make_scripted: Scripts, mode: str) -> None:
    api, model = make_scripted(say, provider=_SEES, max_image_side_px=100)
    api.chat([part(upload(api, png(400, 200, mode), "wide.png"))])
    head, _, body = content_of(model)[1]["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as scaled:
        assert scaled.size == (100, 50)


def test_a_model_without_vision_gets_a_description_of_the_files(
    make_scripted: Scripts,
) -> None:
    api, model = make_scripted(say)
    api.chat([part(upload(api, png(), "dot.png"), "image")])
    assert re.fullmatch(
        r"\[Image Attachment: name dot.png, type image/png, \d+ bytes\]\n"
        r"\[This model cannot take it in\.\]",
        content_of(model),
    )


def test_a_damaged_picture_does_not_fail_the_turn(make_scripted: Scripts) -> None:
    api, model = make_scripted(say, provider=_SEES, max_image_side_px=100)
    events = api.chat([part(upload(api, png(400, 400)[:60], "broken.png"))])
    assert events[-1]["type"] == "end"
    assert events[-3]["data"] == "fine"
    assert "could not be read" in content_of(model)


def test_an_audio_model_gets_the_recording(make_scripted: Scripts) -> None:
    api, model = make_scripted(say, provider=_SEES)
    api.chat([part(upload(api, WAV, "beep.wav"), "record")])
    sound = content_of(model)[1]
    assert sound["type"] == "input_audio"
    assert sound["input_audio"]["format"] == "wav"
    assert base64.b64decode(sound["input_audio"]["data"]) == WAV


@pytest.mark.parametrize(
    ("data", "name", "text"),
    [
        (b"one,two\n", "t.csv", "one,two"),
        ("Größe".encode(), "t.md", "Größe"),
        ("中文内容".encode("gb18030"), "t.txt", "中文内容"),
        ("utf-16".encode("utf-16"), "t.txt", "utf-16"),
        (b"def f(): pass\n", "code.py", "def f(): pass"),
        (b'{"a": 1}', "data.json", '{"a": 1}'),
        (make_pdf("Blue bears"), "bears.pdf", "Blue bears"),
        (samples.make_docx(), "report.docx", "| pencil | 4711 |"),
        (samples.make_xlsx(), "table.xlsx", "| marmalade | 4711 |"),
        (
            "東京都千代田区".encode("cp932"),
            "t.csv",
            "it was read as Shift_JIS.]\n<Attachment>\n東京",
        ),
    ],
)
def test_the_text_of_a_document_reaches_any_model(
    make_scripted: Scripts,
    data: bytes,
    name: str,
    text: str,
) -> None:
    api, model = make_scripted(say)
    api.chat([{"type": "plain", "text": "sum up"}, part(upload(api, data, name))])
    content = content_of(model)
    assert f"name {name}" in content
    assert text in content


def test_a_long_document_is_truncated_with_a_note(make_scripted: Scripts) -> None:
    api, model = make_scripted(say, agent="titles = false\nfile_tokens = 10")
    api.chat([part(upload(api, b"x" * 995 + b"FATAL", "long.txt"))])
    content = content_of(model)
    assert "xx\n[cut: 1000 characters in all]\nxx" in content
    assert "xFATAL\n" in content
    assert content.count("x") < 60


def test_the_documents_of_a_message_share_the_limit(make_scripted: Scripts) -> None:
    api, model = make_scripted(say, agent="titles = false\nfile_tokens = 100")
    api.chat([part(upload(api, one * 400, "long.txt")) for one in (b"x", b"q")])
    assert content_of(model).count("x" * 400) == 1
    assert "q" not in content_of(model)


def test_the_pictures_of_a_message_share_the_limit(
    make_scripted: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, model = make_scripted(say, provider=_SEES)
    one, two = (part(upload(api, png(side), "dot.png"), "image") for side in (8, 9))
    api.chat([one])
    monkeypatch.setattr(media, "_MAX_CARRIED_CHARS", len(content_of(model)[1]["image_url"]["url"]))
    api.chat([one, two])
    text, _ = content_of(model)
    assert text["text"].endswith("[It is not shown: the files before it use up the space.]")


def test_a_file_of_unknown_kind_is_named(make_scripted: Scripts) -> None:
    api, model = make_scripted(say)
    api.chat([part(upload(api, bytes(range(256)), "blob.bin"))])
    assert content_of(model).startswith("[File Attachment: name blob.bin, type ")


def test_a_document_stays_in_the_conversation(make_scripted: Scripts) -> None:
    api, model = make_scripted(say)
    api.chat([part(upload(api, b"the code is 4711", "note.txt"))], session_id="s")
    api.chat("what was the code?", session_id="s")
    assert "4711" in model.seen[-1][1]["content"]


def test_a_deleted_attachment_is_named_as_such(make_scripted: Scripts) -> None:
    api, model = make_scripted(say)
    attachment_id = upload(api, b"gone", "note.txt")
    api.chat([part(attachment_id)], session_id="s")
    row = api.state.files.get(attachment_id)
    assert not api.state.files.delete(row)
    assert api.state.files.delete(row, even_if_used=True)
    api.chat("again", session_id="s")
    assert model.seen[-1][1]["content"] == "[Attachment: deleted since]"


def test_a_message_is_stored_with_the_attachments_own_type_and_name(
    make_scripted: Scripts,
) -> None:
    api, _ = make_scripted(say)
    attachment_id = upload(api, png(), "dot.png")
    api.chat([{**part(attachment_id, "file"), "filename": "liar.exe"}])
    with api.state.db.read() as db:
        (content,) = db.execute_sql("SELECT content FROM message ORDER BY id").fetchone()
    assert f'"type":"image","attachment_id":"{attachment_id}","filename":"dot.png"' in content


@pytest.mark.parametrize("kind", ["image", "record", "file", "video"])
@pytest.mark.parametrize("words", [[], [{"type": "plain", "text": "hi"}]])
@pytest.mark.parametrize(
    ("given", "status", "code", "message"),
    [
        ({"attachment_id": "nope"}, 404, "attachment_not_found", "attachment not found: nope"),
        ({}, 400, "invalid_request", "{} part missing attachment_id"),
        ({"attachment_id": None}, 400, "invalid_request", "{} part missing attachment_id"),
        ({"attachment_id": " "}, 400, "invalid_request", "{} part missing attachment_id"),
        ({"attachment_id": 7}, 400, "invalid_request", "{} part missing attachment_id"),
    ],
)
def test_a_missing_file_is_rejected(
    make_scripted: Scripts, kind: str, words: list[Any], given: Any, status: int, code: str,
    message: str,
) -> None:  # fmt: skip
    api, _ = make_scripted(say)
    answer = api.post_chat(username="alice", message=[*words, {"type": kind, **given}])
    assert (answer.status_code, answer.get_json()["code"]) == (status, code)
    assert answer.get_json()["message"] == message.format(kind)
    for table in ("chat_session", "message", "run"):
        assert api.count_rows(table) == 0


def test_a_session_without_text_is_named_after_its_file(
    make_scripted: Scripts,
) -> None:
    from ..waiting import wait_for

    api, _ = make_scripted(say)
    api.chat([part(upload(api, png(), "dot.png"))])
    sessions = "/api/v1/chat/sessions?username=alice"
    name = wait_for(lambda: api.get(sessions).get_json()["data"]["sessions"][0]["display_name"])
    assert name == "dot.png"


def test_a_tools_file_is_streamed_saved_and_stored(make_scripted: Scripts) -> None:
    def draw(arguments: Mapping[str, Any], context: ToolContext) -> str:
        return "drawn " + context.send_file(png(), "../plot.png")

    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "tool":
            yield TextDelta("There it is.")
        else:
            yield ToolCallDelta(0, "c", "draw", "{}")

    api, model = make_scripted(answer, tools=[Tool("draw", "Draw.", draw)])
    events = api.chat(session_id="s")
    kinds = [event["type"] for event in events]
    at = kinds.index("image")
    assert events[at]["data"] == "[IMAGE]plot.png"
    saved = events[at + 1]
    assert (saved["type"], saved["data"]["type"]) == ("attachment_saved", "image")
    row = api.state.files.get(saved["data"]["id"])
    assert api.state.files.read_bytes(row, 10_000) == png()
    assert not api.state.files.delete(row), "the bot's message uses it"
    api.chat("what was it?", session_id="s")
    said = [str(one["content"]) for one in model.seen[-1] if one["role"] == "assistant"]
    assert any(one.startswith("[You sent the image plot.png.]") for one in said)


def test_tools_can_read_the_users_files(make_scripted: Scripts) -> None:
    def measure(arguments: Mapping[str, Any], context: ToolContext) -> str:
        (sent,) = context.attachments
        return f"{sent.filename} {sent.type} {sent.read(5)!r}"

    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "tool":
            yield TextDelta(messages[-1]["content"])
        else:
            yield ToolCallDelta(0, "c", "measure", "{}")

    api, _ = make_scripted(answer, tools=[Tool("measure", "Measure.", measure)])
    events = api.chat([part(upload(api, b"0123456789", "digits.txt"))])
    assert events[-3]["data"] == "digits.txt file b'01234'"


def test_a_model_reads_a_document_piece_by_piece(make_scripted: Scripts) -> None:
    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "tool":
            yield TextDelta(messages[-1]["content"])
        else:
            yield ToolCallDelta(0, "c", "read_attachment", '{"offset": 2}')

    api, _ = make_scripted(answer)
    for data, name, wanted in (
        (samples.make_docx(), "a.docx", "Quarterly report"),
        ("東京都千代田区の天気".encode("cp932"), "a.txt", "都千代田区の天気"),
        (png(), "dot.png", "dot.png (image/png) is not a text"),
    ):
        events = api.chat([part(upload(api, data, name))])
        assert wanted in events[-3]["data"]


def test_no_stream_contains_a_path_of_the_server(make_scripted: Scripts) -> None:
    def echo(messages: list[ModelMessage]) -> Iterator[Delta]:
        yield TextDelta(str(messages[-1]["content"]))

    api, _ = make_scripted(echo)
    body = {"username": "alice", "message": [part(upload(api, b"text", "n.txt"))]}
    answer = api.post_chat(**body).get_data()
    assert parse_events(answer)[-1]["type"] == "end"
    assert str(api.state.settings.data_dir).encode() not in answer


def make_endless_pdf() -> bytes:
    """Return a small PDF that keeps a reader busy for minutes: one content on many pages."""
    packed = zlib.compress(b"BT /F1 1 Tf [( )1( )1( )1( )1] TJ ET\n" * 14_000, 9)
    count = 3000
    kids = b" ".join(b"%d 0 R" % (5 + number) for number in range(count))
    page = (
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 3 0 R"
        b"/Resources<</Font<</F1 4 0 R>>>>>>"
    )
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[" + kids + b"]/Count %d>>" % count,
        b"<</Length %d/Filter/FlateDecode>>\nstream\n" % len(packed) + packed + b"\nendstream",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        *[page] * count,
    ]
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer<</Size %d/Root 1 0 R>>\n" % (len(objects) + 1)
    return out + b"startxref\n%d\n%%%%EOF\n" % start


@pytest.mark.timeout(120)
def test_a_turn_over_a_pdf_that_never_ends_can_be_stopped(make_scripted: Scripts) -> None:
    api, model = make_scripted(say)
    sent = [{"type": "plain", "text": "read"}, part(upload(api, make_endless_pdf(), "slow.pdf"))]
    answer = api.post_chat(username="alice", message=sent, response_mode="background")
    run_id = answer.get_json()["data"]["run_id"]
    api.state.chat.runs.stop([run_id])
    wait_for(lambda: api.state.chat.runs.active_count == 0, limit_s=8)
    assert model.seen == []


def test_a_document_that_exceeds_a_limit_is_named_and_not_read_again(
    make_scripted: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        prepared_files, "EXTRACT_TEXT", replace(EXTRACT_TEXT, limits=Limits(cpu_s=1))
    )
    api, model = make_scripted(say)
    sent = [part(upload(api, make_endless_pdf(), "slow.pdf"))]
    for _ in range(2):
        api.chat(sent)
        assert "It could not be read: reading it takes too long." in content_of(model)


def make_scan() -> bytes:
    return samples.save(samples.make_picture(), "PDF")


def test_a_vision_model_gets_the_pages_of_a_scan(make_scripted: Scripts) -> None:
    api, model = make_scripted(say, provider=_SEES)
    api.chat([part(upload(api, make_scan(), "scan.pdf"))])
    text, page = content_of(model)
    assert "[It has no text: its pages are images" in text["text"]
    assert "[The pictures are its pages 1 of 1.]" in text["text"]
    assert page["image_url"]["url"].startswith("data:image/jpeg;base64,")


def test_a_vision_model_gets_the_pages_of_a_tiff(make_scripted: Scripts) -> None:
    api, model = make_scripted(say, provider=_SEES)
    pages = [Image.new("1", (60, 80), number % 2) for number in range(10)]
    fax = samples.save(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    api.chat([part(upload(api, fax, "fax.tif"), "image")])
    written, *pictures = content_of(model)
    assert "[8 of its 10 pages are shown.]" in written["text"]
    bodies = [base64.b64decode(one["image_url"]["url"].partition(",")[2]) for one in pictures]
    colours = [Image.open(io.BytesIO(one)).getpixel((9, 9)) for one in bodies]
    assert colours == [(0, 0, 0), (255, 255, 255)] * 4


@pytest.mark.parametrize("turned", [False, True])
def test_a_vision_model_gets_a_long_picture_in_parts(turned: bool, make_scripted: Scripts) -> None:
    api, model = make_scripted(say, provider=_SEES)
    picture = Image.linear_gradient("L").resize((300, 20_000))  # black at the top, white at the end
    picture = picture.transpose(Image.Transpose.ROTATE_90) if turned else picture
    api.chat([part(upload(api, samples.save(picture, "PNG"), "chat.png"), "image")])
    written, *pictures = content_of(model)
    way = "from the left to the right" if turned else "from the top to the bottom"
    assert f"[It is shown in parts that overlap, {way}.]" in written["text"]
    bodies = [base64.b64decode(one["image_url"]["url"].partition(",")[2]) for one in pictures]
    shown = [Image.open(io.BytesIO(one)).convert("L") for one in bodies]
    assert [sorted(one.size) for one in shown] == [[179, 1568]] * 8
    ends = [(one.getpixel((0, 0)), one.getpixel((one.width - 1, one.height - 1))) for one in shown]
    assert (ends[0][0], ends[-1][1]) == (0, 255)
    for (_, end), (begin, _) in pairwise(ends):
        assert begin < end  # they overlap


def test_a_vision_model_gets_the_text_and_the_scanned_pages_of_a_pdf(
    make_scripted: Scripts,
) -> None:
    api, model = make_scripted(say, provider=_SEES)
    text = "BT /F1 12 Tf 72 700 Td (Cover letter) Tj ET"
    pdf = samples.make_pdf(text, "600 0 0 800 0 0 cm /I1 Do")
    api.chat([part(upload(api, pdf, "scan.pdf"))])
    written, page = content_of(model)
    assert "[The pictures are its pages 2 of 2.]" in written["text"]
    assert "<Attachment>\nCover letter" in written["text"]
    assert page["image_url"]["url"].startswith("data:image/jpeg;base64,")


def test_a_vision_model_gets_the_pictures_of_a_document_with_little_text(
    make_scripted: Scripts,
) -> None:
    api, model = make_scripted(say, provider=_SEES)
    scan = samples.save(samples.make_picture((400, 300)), "BMP")
    media = {"image10.bmp": scan, "image2.png": b"damaged" * 999, "icon.png": png()}
    api.chat([part(upload(api, samples.make_docx(media=media), "scans.docx"))])
    written, page = content_of(model)
    assert "[It has 2 pictures.]\n[1 of its 2 pictures are shown.]" in written["text"]
    assert "is marmalade" in written["text"]
    assert page["image_url"]["url"].startswith("data:image/jpeg;base64,")
    long = "<w:p><w:r><w:t>" + "text " * 200 + "</w:t></w:r></w:p>"
    api.chat([part(upload(api, samples.make_docx(long, media=media), "manual.docx"))])
    assert "[Its pictures are not shown: 2.]" in content_of(model)


def test_a_scan_is_reported_as_without_text(make_scripted: Scripts) -> None:
    api, model = make_scripted(say)
    api.chat([part(upload(api, make_scan(), "scan.pdf"))])
    assert "[It has no text: its pages are images" in content_of(model)


def test_a_picture_sent_twice_reaches_the_model_once(make_scripted: Scripts) -> None:
    api, model = make_scripted(say, provider=_SEES)
    picture = part(upload(api, png(), "dot.png"), "image")
    api.chat([picture, picture])
    assert [one["type"] for one in content_of(model)] == ["text", "image_url"]


def test_a_vision_model_gets_the_pictures_of_its_tools(make_scripted: Scripts) -> None:
    def draw(arguments: Mapping[str, Any], context: ToolContext) -> str:
        context.send_file(png(), "plot.png")
        context.send_file(b"x,y", "plot.csv")
        return "drawn"

    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "user" and messages[-1]["content"] == "draw":
            yield ToolCallDelta(0, "c1", "draw", "{}")
        else:
            yield TextDelta("I see it.")

    api, model = make_scripted(answer, provider=_SEES, tools=[Tool("draw", "Draw.", draw)])
    api.chat("draw")
    result, shown = model.seen[-1][-2:]
    assert (result["role"], result["content"]) == ("tool", "drawn")
    assert shown["role"] == "user"
    text, picture = shown["content"]
    assert text["text"].startswith("[The tools have sent:]\n[Image Attachment: name plot.png")
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")


def test_a_vision_model_gets_the_picture_of_an_mcp_server(make_scripted: Scripts) -> None:
    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["content"] == "draw":
            yield ToolCallDelta(0, "c1", "odd.echo", "{}")
        else:
            yield TextDelta("I see it.")

    found = Answers(text("look"), picture(base64.b64encode(png()).decode()))
    tools = make_tools(SERVER, offer(ECHO), found)
    api, model = make_scripted(answer, provider=_SEES, tools=tools)
    events = api.chat("draw")
    assert "[IMAGE]image.png" in [event["data"] for event in events]
    result, shown = model.seen[-1][-2:]
    assert (result["role"], result["content"].splitlines()[0]) == ("tool", "look")
    assert shown["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")


def make_noise() -> bytes:
    """Return a picture that takes 360 kB in a request."""
    file, noise = io.BytesIO(), random.Random(1).randbytes(300 * 300 * 3)
    Image.frombytes("RGB", (300, 300), noise).save(file, "PNG")
    return file.getvalue()


def draw_noise(arguments: Mapping[str, Any], context: ToolContext) -> str:
    context.send_file(make_noise(), "plot.png")
    return "drawn"


def test_a_turn_cannot_fill_the_memory_with_the_pictures_of_its_tools(
    make_scripted: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        yield ToolCallDelta(0, "", "draw", "{}")

    api, model = make_scripted(answer, provider=_SEES, tools=[Tool("draw", "Draw.", draw_noise)])
    runs = api.state.chat.runs
    monkeypatch.setattr(runs._memory, "_max_bytes_of_one", 1_000_000)
    (error,) = [one for one in api.chat("draw") if one["type"] == "error"]
    assert error["code"] == "server_busy"
    assert len(model.seen) == 3
    wait_for(lambda: not runs.active_count)
    assert not runs._memory._bytes


def test_a_resumed_turn_counts_the_pictures_of_its_earlier_steps(
    make_scripted: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        drawn = any(one["role"] == "tool" for one in messages)
        yield ToolCallDelta(0, "", "pay" if drawn else "draw", "{}")

    pay = Tool("pay", "Pay.", lambda arguments, context: "paid", needs_approval=True)
    tools = [Tool("draw", "Draw.", draw_noise), pay]
    api, model = make_scripted(answer, provider=_SEES, tools=tools)
    events = api.chat("draw and pay")
    asked = events[-1]["data"]
    path = f"/api/v1/chat/runs/{events[2]['data']['run_id']}"
    wait_for(lambda: api.get(path).get_json()["data"]["status"] == "waiting")
    monkeypatch.setattr(api.state.chat.runs._memory, "_max_bytes_of_one", 100_000)
    api.post(f"{path}/approvals/{asked['id']}", json={"decision": "approve"})
    events = parse_events(api.get(f"{path}/stream").get_data())
    (error,) = [one for one in events if one["type"] == "error"]
    assert error["code"] == "server_busy"
    assert len(model.seen) == 2


def test_running_turns_cannot_fill_the_memory_with_pictures(
    make_scripted: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_MAX_WAIT_S", 0.0)
    go_on = threading.Event()
    api, model = make_scripted(["A", go_on, "ha"], provider=_SEES)
    monkeypatch.setattr(api.state.chat.runs._memory, "_max_bytes_of_one", 400_000)
    file, noise = io.BytesIO(), random.Random(1).randbytes(300 * 300 * 3)
    Image.frombytes("RGB", (300, 300), noise).save(file, "PNG")
    sent = {"type": "image", "attachment_id": upload(api, file.getvalue(), "a.png")}

    def show(session_id: str) -> list[dict[str, Any]]:
        return api.chat([sent, {"type": "plain", "text": "?"}], session_id=session_id)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(show, "a")
        wait_for(lambda: model.seen)
        (error,) = [one for one in show("b") if one["type"] == "error"]
        assert error["code"] == "server_busy"
        go_on.set()
        assert running.result(30)[-1]["type"] == "end"
    assert [one["type"] for one in show("b")].count("error") == 0
