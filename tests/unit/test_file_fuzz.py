"""Truncated and damaged files of every type end with a result, within the limits."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astrbot_api.errors import Unreadable
from astrbot_api.files.reading.reader import EXTRACT_TEXT, PREPARE_PICTURE, TO_WAV
from astrbot_api.runtime.aside import Aside, AsideError, Job

from .. import samples


def make_wav() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, 2000, "NONE", ""))
        file.writeframes(bytes(4000))
    return out.getvalue()


#: Samples, and the job that reads each.
SAMPLES: list[tuple[Job, bytes]] = [
    *(
        (EXTRACT_TEXT, data)
        for data in (
            samples.make_docx(), samples.make_xlsx(), samples.make_pptx(), samples.make_odt(),
            samples.make_epub(), samples.MAIL, samples.RTF, samples.HTML,
            samples.save(samples.make_picture(), "PDF"),
        )
    ),
    *(
        (PREPARE_PICTURE, samples.save(samples.make_picture(), format))
        for format in ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "TIFF", "BMP")
    ),
    (PREPARE_PICTURE, samples.make_animated("GIF")),
    (TO_WAV, make_wav()),
]  # fmt: skip


@pytest.fixture(scope="module")
def aside() -> Iterator[Aside]:
    aside = Aside()
    yield aside
    aside.close()


@st.composite
def damaged_files(draw: st.DrawFn) -> tuple[Job, bytes]:
    """Return a truncated sample with some changed bytes."""
    job, data = draw(st.sampled_from(SAMPLES))
    changed = bytearray(data[: draw(st.integers(1, len(data)))])
    places = st.tuples(st.integers(0, len(changed) - 1), st.integers(0, 255))
    for at, value in draw(st.lists(places, max_size=20)):
        changed[at] = value
    return job, bytes(changed)


def read(aside: Aside, job: Job, data: bytes) -> str:
    arguments = {
        EXTRACT_TEXT: {"mime": "application/octet-stream", "name": "file.html"},
        PREPARE_PICTURE: {"max_side_px": 512},
        TO_WAV: {"max_s": 60},
    }
    try:
        aside.run(job, data, arguments[job])
    except Unreadable as error:
        return str(error)
    except AsideError as error:
        return error.cause
    return "read"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damaged_files())
def test_any_damaged_file_has_an_answer(aside: Aside, file: tuple[Job, bytes]) -> None:
    assert read(aside, *file) not in ("", "busy", "unavailable")


def test_every_sample_is_read_when_it_is_whole(aside: Aside) -> None:
    for job, data in SAMPLES:
        assert read(aside, job, data) == "read"
