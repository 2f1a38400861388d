"""Jobs for audio and video: conversion to WAV, metadata, still images."""

from __future__ import annotations

import io
import time
import wave
from collections.abc import Iterator
from typing import Any, BinaryIO

from ...errors import Unreadable

#: Sample rate of the WAV files, with which audio models are trained.
_RATE_HZ = 16_000

#: Signature of Silk audio. WeChat adds a byte before it (Source: the SDK of Skype's Silk).
_SILK = b"#!SILK_V3"

#: Options for FFmpeg: open nothing but the file itself. A playlist or SDP behind the signature of a
#: recording names other files and addresses (Source: FFmpeg's protocols manual).
_ALONE = {"container_options": {"protocol_whitelist": ""}}

#: Seconds of CPU time for the still images of a video, of the 20 that the job has.
_ENOUGH_S = 6.0

#: Reason if the extra is not installed, also for HEIC photos.
NO_READER = "the server has no reader for it: pip install 'astrbot-api[media]'"


def to_wav(source: BinaryIO, max_s: int) -> tuple[Any, bytes]:
    """Convert the start of a recording to WAV: one channel, 16 bits, 16 kHz.

    :param max_s: Maximum length in seconds.
    :returns: ``{"seconds": …, "notes": [sentence, …]}`` and the WAV.
    :raises Unreadable: when the file has no audio or an unsupported format.
    """
    head = source.read(16)
    source.seek(0)
    frames = _iter_silk(source) if _SILK in head else _iter_frames(source)
    out = io.BytesIO()
    taken, most = 0, max_s * _RATE_HZ
    notes: list[str] = []
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE_HZ)
        for frame in frames:
            file.writeframes(frame[: 2 * (most - taken)])
            taken += len(frame) // 2
            if taken >= most:
                notes.append(f"Only its first {max_s} seconds are given.")
                break
    if not taken:
        raise Unreadable("it has no sound")
    return {"seconds": round(min(taken, most) / _RATE_HZ, 1), "notes": notes}, out.getvalue()


def describe(source: BinaryIO) -> tuple[Any, bytes]:
    """Return the metadata of a recording or video: ``{"seconds", "width"?, "height"?}``."""
    av = _import_av()
    try:
        with av.open(source, **_ALONE) as container:
            if not (container.streams.audio or container.streams.video):
                # Before 8.1, FFmpeg finds no stream in an SDP behind another signature.
                raise Unreadable("it has no sound and no video")
            seconds = round(container.duration / 1_000_000, 1) if container.duration else None
            found: dict[str, Any] = {"seconds": seconds}
            if container.streams.video:
                stream = container.streams.video[0]
                found |= {"width": stream.width, "height": stream.height}
            return found, b""
    except (av.FFmpegError, ValueError, OSError) as error:
        raise Unreadable("it is damaged or its format is not supported") from error


def grab_frames(source: BinaryIO, count: int, max_side_px: int) -> tuple[Any, bytes]:
    """Return evenly spaced still images of a video.

    :returns: ``{"sizes": [bytes, …], "at_s": [seconds, …]}`` and the concatenated JPEGs.
    """
    av = _import_av()
    pictures, at_s = [], []
    try:
        with av.open(source, **_ALONE) as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                raise Unreadable("it has no video")
            length = (container.duration or 0) / 1_000_000
            for number in range(count):
                share = (number + 0.5) / count
                frame = _decode_at(container, stream, length * share, _ENOUGH_S * share)
                time_s = None if frame is None else round(float(frame.time or 0), 1)
                if time_s is None or time_s in at_s:
                    continue
                # Phones store a portrait video on its side.
                picture = frame.to_image().rotate(frame.rotation, expand=True)
                picture.thumbnail((max_side_px, max_side_px))
                out = io.BytesIO()
                picture.save(out, "JPEG", quality=80)
                pictures.append(out.getvalue())
                at_s.append(time_s)
    except (av.FFmpegError, ValueError, OSError) as error:
        if not pictures:
            raise Unreadable("it is damaged or its format is not supported") from error
    sizes = [len(one) for one in pictures]
    return {"sizes": sizes, "at_s": at_s}, b"".join(pictures)


def _decode_at(container: Any, stream: Any, want_s: float, enough_s: float) -> Any:
    """Return the frame at a time, an earlier one if decoding up to it takes long, or None.

    :param enough_s: CPU time of this process after which decoding stops.
    """
    container.seek(int(want_s * 1_000_000))  # to the key frame before it
    frame = None
    for frame in container.decode(stream):
        if (frame.time or 0) >= want_s or time.process_time() > enough_s:
            break
    return frame


def _iter_frames(source: BinaryIO) -> Iterator[bytes]:
    """Yield the samples decoded by FFmpeg. A damaged file yields the samples before the damage."""
    av = _import_av()
    resampler = av.AudioResampler(format="s16", layout="mono", rate=_RATE_HZ)
    begun = False
    try:
        with av.open(source, **_ALONE) as container:
            stream = next(iter(container.streams.audio), None)
            if stream is None:
                raise Unreadable("it has no sound")
            for frame in container.decode(stream):
                for one in resampler.resample(frame):
                    begun = True
                    yield bytes(one.planes[0])[: one.samples * 2]
            for one in resampler.resample(None):
                yield bytes(one.planes[0])[: one.samples * 2]
    except (av.FFmpegError, ValueError, OSError) as error:
        if not begun:
            raise Unreadable("it is damaged or its format is not supported") from error


def _iter_silk(source: BinaryIO) -> Iterator[bytes]:
    """Yield the samples of Silk audio."""
    try:
        import pilk_nogil
    except ImportError as error:
        raise Unreadable(NO_READER) from error
    try:
        yield pilk_nogil.decode(source.read(), None, pcm_rate=_RATE_HZ)
    except Exception as error:
        raise Unreadable("it is damaged") from error


def _import_av() -> Any:
    try:
        import av
        import av.logging
    except ImportError as error:
        raise Unreadable(NO_READER) from error
    av.logging.set_level(av.logging.PANIC)
    return av
