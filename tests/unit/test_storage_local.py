"""Attachments of an application with a folder as storage."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from astrbot_api.config.loading import load_settings
from astrbot_api.db import attachments as rows
from astrbot_api.db.attachment_uses import is_used, link_attachments
from astrbot_api.db.attachments import new_blob
from astrbot_api.db.sqlite_store import SqliteStore
from astrbot_api.db.stored import find_committed
from astrbot_api.errors import ApiError, StorageError
from astrbot_api.files.attachments import Attachments
from astrbot_api.files.incoming import Sender
from astrbot_api.files.storage import local
from astrbot_api.files.storage.local import LocalStorage
from astrbot_api.files.storage.protocol import relative_path
from astrbot_api.files.sweep import Swept, sweep


class Box:
    """A data directory with its database and its attachments."""

    def __init__(self, folder: Path, **settings: int) -> None:
        self.settings = load_settings({"data_dir": folder, **settings}, environ={})
        self.store = SqliteStore(self.settings.database_path)
        self.store.upgrade()
        self.attachments = Attachments(self.settings, self.store)

    def files(self) -> list[Path]:
        return [path for path in self.settings.files_dir.rglob("*") if path.is_file()]

    def strays(self) -> list[str]:
        with self.store.read() as db:
            return rows.list_strays(db, 2**62)

    def sweep(self, **options: bool) -> list[Swept]:
        found = sweep(self.attachments, self.store, older_than_days=1, **options)
        return list(found)

    def make_older(self, days: float) -> None:
        us = int(days * 24 * 3600 * 1_000_000)
        self.store.write(
            lambda db: [
                db.execute_sql(f"UPDATE {table} SET {column} = {column} - {us}")
                for table, column in (("attachment", "created_at"), ("stray_blob", "since"))
            ]
        )


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    made.store.close()


def test_bytes_and_files_of_tools_are_taken_in(box: Box, tmp_path: Path) -> None:
    path = tmp_path / "made by a tool"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(700_000))
    of_path = box.attachments.store_bytes(path, "../chart.png")
    of_bytes = box.attachments.store_bytes(path.read_bytes(), "chart.png", Sender("key"))
    assert (of_path.name, of_path.type, of_path.key_id) == ("chart.png", "image", None)
    assert of_path.blob == of_bytes.blob
    assert path.exists()
    assert box.attachments.read_bytes(of_bytes, 10**9) == path.read_bytes()
    assert box.attachments.read_bytes(of_bytes, 4) == b"\x89PNG"
    assert b"".join(box.attachments.open_chunks(of_bytes, 1, 4)) == b"PNG"


def test_an_upload_that_fails_half_way_leaves_nothing(box: Box) -> None:
    def read(size_bytes: int) -> bytes:
        if box.files() and box.files()[0].stat().st_size:
            raise ZeroDivisionError
        return bytes(size_bytes)

    with pytest.raises(ZeroDivisionError):
        box.attachments.receive(SimpleNamespace(read=read), "x", None)
    assert box.files() == box.strays() == []


def test_a_row_that_cannot_be_stored_leaves_no_bytes(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise StorageError("full")

    monkeypatch.setattr(rows, "add_attachment", fail)
    with pytest.raises(StorageError):
        box.attachments.store_bytes(b"x", "x")
    assert box.files() == box.strays() == []


def test_bytes_whose_deletion_fails_are_left_to_the_sweep(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = box.attachments.store_bytes(b"x", "x")

    def fail(self: LocalStorage, blob: str) -> None:
        raise OSError("busy")

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "delete", fail)
        assert box.attachments.delete(row)
    assert box.strays() == [row.blob]
    with pytest.raises(ApiError, match="not found"):
        box.attachments.get(row.attachment_id)
    # Identical bytes uploaded again get a new name, so the sweep cannot affect them.
    again = box.attachments.store_bytes(b"x", "x")
    assert again.blob != row.blob
    assert box.sweep(delete=False) == []  # a running upload may need such bytes
    box.make_older(2)
    assert Swept("bytes", row.blob) in box.sweep(delete=False)
    box.attachments.delete_blob(row.blob)
    assert box.attachments.read_bytes(again, 10) == b"x"


def _upload_meanwhile(
    box: Box, monkeypatch: pytest.MonkeyPatch, data: bytes, sender: Sender | None = None
) -> list[rows.AttachmentRow]:
    """Create and delete another upload while the next one is being saved."""
    save = LocalStorage.save
    found: list[rows.AttachmentRow] = []

    def interrupted(self: LocalStorage, path: Path, blob: str) -> None:
        monkeypatch.undo()
        found.append(box.attachments.store_bytes(data, "other", sender))
        save(self, path, blob)

    monkeypatch.setattr(LocalStorage, "save", interrupted)
    return found


def test_two_uploads_of_the_same_bytes_at_once_share_them(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = _upload_meanwhile(box, monkeypatch, b"same")
    row = box.attachments.store_bytes(b"same", "x")
    assert row.blob == others[0].blob
    assert len(box.files()) == 1
    assert box.strays() == []


def test_two_uploads_at_once_do_not_exceed_the_limit_of_their_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Box(tmp_path, max_bytes_per_key=10)
    _upload_meanwhile(box, monkeypatch, b"1234567", Sender("key"))
    with pytest.raises(ApiError, match="more than 10 bytes"):
        box.attachments.store_bytes(b"abcdefg", "x", Sender("key"))
    assert len(box.files()) == 1
    assert box.strays() == []
    box.store.close()


def test_bytes_that_are_there_are_not_saved_again(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = box.attachments.store_bytes(b"same", "x")
    monkeypatch.delattr(LocalStorage, "save")
    assert box.attachments.store_bytes(b"same", "y").blob == row.blob


def test_no_upload_loses_its_bytes_to_a_slow_deletion_of_the_same(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = box.attachments.store_bytes(b"same", "x")
    found: list[rows.AttachmentRow] = []
    delete = LocalStorage.delete

    def slow(self: LocalStorage, blob: str) -> None:
        monkeypatch.undo()
        found.append(box.attachments.store_bytes(b"same", "y"))
        delete(self, blob)

    monkeypatch.setattr(LocalStorage, "delete", slow)
    box.attachments.delete(row)
    assert box.attachments.read_bytes(found[0], 10) == b"same"


def test_many_uploads_and_deletions_of_the_same_bytes_leave_nothing(box: Box) -> None:
    data = b"the same for all" * 1000

    def work(number: int) -> None:
        for _ in range(25):
            row = box.attachments.store_bytes(data, "x", Sender(f"key{number}"))
            assert box.attachments.read_bytes(row, 10**6) == data
            assert box.attachments.delete(row)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert box.files() == box.strays() == []
    with box.store.read() as db:
        assert find_committed(db, "key0").files_bytes == 0


def test_the_sweep_takes_what_is_old_and_unused_alone(box: Box) -> None:
    old = box.attachments.store_bytes(b"old", "old.txt")
    used = box.attachments.store_bytes(b"used", "used.txt")
    box.store.write(lambda db: link_attachments(db, 1, [used.id]))
    box.make_older(1.1)
    young = box.attachments.store_bytes(b"young", "young.txt")
    expected = [Swept("attachment", f"{old.attachment_id} old.txt", 3)]
    assert box.sweep(delete=False) == expected
    assert len(box.files()) == 3
    assert box.sweep(delete=True) == expected
    assert box.sweep(delete=True) == []
    with pytest.raises(ApiError, match="not found"):
        box.attachments.get(old.attachment_id)
    assert {path.name for path in box.files()} == {used.blob, young.blob}


def test_temporary_files_of_a_crash_go_after_a_day(box: Box) -> None:
    incoming = box.attachments.begin("a.txt", None)
    incoming.write(b"x")
    with incoming:
        assert box.attachments.remove_stale_uploads() == 0
        yesterday = time.time() - 25 * 3600
        os.utime(incoming.path, (yesterday, yesterday))
        assert box.sweep(delete=False) == [Swept("temporary", "1 files")]
        Attachments(box.settings, box.store).remove_stale_uploads()
        assert box.files() == []


def test_a_limit_stops_a_file_as_soon_as_it_is_exceeded(tmp_path: Path) -> None:
    box = Box(tmp_path, max_file_bytes=10)
    with box.attachments.begin("a.txt", None) as incoming:
        incoming.write(bytes(10))
        with pytest.raises(ApiError, match="limit of 10 bytes"):
            incoming.write(b"x")
    box.store.close()


@pytest.mark.parametrize(
    "blob", ["", "../x", "a" * 64, "a" * 64 + "-" + "b" * 12 + "\n", "A" * 64 + "-" + "b" * 12]
)
def test_only_names_that_the_server_makes_become_paths(blob: str) -> None:
    with pytest.raises(ValueError, match="not the name of a blob"):
        relative_path(blob)


@pytest.mark.parametrize("cached", ["whole", "half", "nothing", "unknown"])
def test_a_blob_is_read_whether_it_is_in_memory_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: str
) -> None:
    def read_half(fd: int, buffers: list[bytearray], at: int, flags: int) -> int:
        if cached == "nothing" or at % 2:
            raise BlockingIOError
        data = os.pread(fd, 5, at)
        buffers[0][: len(data)] = data
        return len(data)

    if cached == "unknown":
        monkeypatch.setattr(local, "_NO_WAIT", None)
    elif cached != "whole":
        monkeypatch.setattr(os, "preadv", read_half)
    storage, data, blob = LocalStorage(tmp_path / "files"), bytes(range(200)), new_blob("ab" * 32)
    (tmp_path / "new").write_bytes(data)
    storage.save(tmp_path / "new", blob)
    reader = storage.open(blob, 50, 150)
    pieces = []
    while piece := reader.read(16):
        pieces.append(piece)
    reader.close()
    assert b"".join(pieces) == data[50:]


def test_links_and_lookups_of_many(box: Box) -> None:
    first, second = (box.attachments.store_bytes(data, "x", Sender("k")) for data in (b"1", b"22"))

    def look(read: Callable[..., object]) -> object:
        with box.store.read() as db:
            return read(db)

    ids = [first.attachment_id, "nope", second.attachment_id, first.attachment_id]
    assert look(lambda db: rows.find_attachments(db, ids)) == {
        first.attachment_id: first, second.attachment_id: second,
    }  # fmt: skip
    assert look(lambda db: rows.find_attachments(db, [])) == {}
    assert look(lambda db: find_committed(db, "k").files_bytes) == 3
    assert look(lambda db: is_used(db, first.id)) is False
    for _ in range(2):
        box.store.write(lambda db: link_attachments(db, 5, [first.id]))
    assert look(lambda db: is_used(db, first.id)) is True
    assert look(lambda db: rows.list_unused(db, 2**62, 10)) == [second]


@pytest.mark.skipif(local._NO_WAIT is None, reason="no RWF_NOWAIT")
def test_a_download_takes_turns_with_others_after_each_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[None] = []
    monkeypatch.setattr(local, "wait_turn", lambda: turns.append(None))
    (tmp_path / "one").write_bytes(b"x" * 30)
    file = local._File(tmp_path / "one", 0, [])
    assert [file.read(10) for _ in range(3)] == [b"x" * 10] * 3
    file.close()
    assert len(turns) == 3
