"""The journal returns appended events once, in order, to every reader."""

from __future__ import annotations

import sqlite3
import threading
import time
import tracemalloc
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from astrbot_api import events
from astrbot_api.chat.turns.fold import make_rewind
from astrbot_api.config.settings import Settings
from astrbot_api.errors import StorageError
from astrbot_api.events import decode_event, encode_event
from astrbot_api.runlog import sqlite_events
from astrbot_api.runlog.journal import READ_LIMIT, Journal, Piece, Slice
from astrbot_api.runlog.log import RunLog
from astrbot_api.runlog.opening import open_journal
from astrbot_api.runlog.reading import Followers, JournalReader, LogReader
from astrbot_api.runlog.redis_journal import RedisJournal
from astrbot_api.runlog.signals.signals import Callback
from astrbot_api.runlog.sqlite_journal import SqliteJournal
from astrbot_api.runlog.writer import JournalWriter

from ..postgres import Postgres
from ..redis_server import RedisServer
from ..waiting import LIMIT_S, wait_for


class _NoSignals:
    """Signals of a single worker, without others to notify."""

    def publish(self, topic: str, payload: str) -> None: ...

    def subscribe(self, topic: str, callback: Callback) -> None: ...

    def start(self) -> None: ...

    def close(self) -> None: ...


FAR_FUTURE_US = 2**62


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    """Each kind of journal. The tests apply to all of them."""
    settings: dict[str, Any] = {"data_dir": tmp_path}
    if request.param == "postgres":
        settings["database_url"] = request.getfixturevalue("postgres_url")
    if request.param == "redis":
        settings["redis_url"] = request.getfixturevalue("redis_server").url
        settings["redis_prefix"] = request.getfixturevalue("redis_prefix")
    opened = open_journal(Settings(**settings))
    yield opened
    opened.close()


def lines(first: int, last: int) -> list[bytes]:
    """Return events as JSON that differ only in their numbers."""
    return [b'{"n":"\xc3\xa9 %d"}' % number for number in range(first, last + 1)]


def types_of(events_: Sequence[bytes]) -> list[str]:
    return [decode_event(line)["type"] for line in events_]


def test_events_are_read_from_any_number_on(journal: Journal) -> None:
    journal.append([Piece(7, 1, lines(1, 3)), Piece(8, 1, lines(1, 1))])
    journal.append([Piece(7, 4, lines(4, 5))])
    assert journal.read_after(7, 0) == Slice(lines(1, 5), closed=False)
    assert journal.read_after(7, 3) == Slice(lines(4, 5), closed=False)
    assert journal.read_after(7, 5) == Slice([], closed=False)
    assert journal.read_after(9, 0) == Slice([], closed=False)


def test_a_reader_knows_the_end_only_with_the_last_event(journal: Journal) -> None:
    journal.append([Piece(7, 1, lines(1, 5), ended=True)])
    assert not journal.read_after(7, 0, limit=4).closed
    assert journal.read_after(7, 4, limit=4) == Slice(lines(5, 5), closed=True)
    assert journal.read_after(7, 5) == Slice([], closed=True)


def test_a_long_run_is_read_in_parts(journal: Journal) -> None:
    journal.append([Piece(7, 1, lines(1, READ_LIMIT + 10), ended=True)])
    first = journal.read_after(7, 0)
    assert len(first.events) == READ_LIMIT
    assert journal.read_after(7, READ_LIMIT) == Slice(
        lines(READ_LIMIT + 1, READ_LIMIT + 10), closed=True
    )


def test_a_run_of_large_events_is_read_in_small_parts(journal: Journal) -> None:
    large = [b'{"n":%d,"x":"%s"}' % (number, b"x" * 100_000) for number in range(1, 41)]
    journal.append([Piece(7, 1, large, ended=True)])
    seen: list[bytes] = []
    while not (found := journal.read_after(7, len(seen))).closed:
        assert 0 < len(found.events) <= 3
        seen += found.events
    assert seen + found.events == large


def test_a_piece_that_is_written_again_may_have_grown(journal: Journal) -> None:
    # After a commit with an unknown outcome, the writer sends the piece again with later events.
    journal.append([Piece(7, 1, lines(1, 3))])
    journal.append([Piece(7, 4, lines(4, 5))])
    journal.append([Piece(7, 4, lines(4, 900), ended=True)])
    assert journal.read_after(7, 0, limit=1000) == Slice(lines(1, 900), closed=True)
    assert journal.read_after(7, 777, limit=2) == Slice(lines(778, 779), closed=False)


def test_what_was_ended_elsewhere_takes_nothing_more_from_its_worker(journal: Journal) -> None:
    journal.append([Piece(7, 1, lines(1, 2))])
    assert journal.end_run(7, [events.error("r", "run_interrupted", "x"), events.end("r")])
    journal.append([Piece(7, 3, lines(3, 9), ended=True)])
    found = journal.read_after(7, 2)
    assert found.closed
    assert types_of(found.events) == ["error", "end"]
    assert journal.read_after(7, 4) == Slice([], closed=True)


def test_a_run_is_ended_once(journal: Journal) -> None:
    journal.append([Piece(7, 1, lines(1, 2), ended=True)])
    assert not journal.end_run(7, [events.end("r")])
    assert journal.read_after(7, 0) == Slice(lines(1, 2), closed=True)


def test_a_number_that_is_used_again_begins_again(journal: Journal) -> None:
    journal.append([Piece(7, 1, lines(1, 5), ended=True)])
    journal.append([Piece(7, 1, lines(1, 2))])
    assert journal.read_after(7, 0) == Slice(lines(1, 2), closed=False)


def test_pruning_forgets_what_has_ended_and_nothing_else(journal: Journal) -> None:
    journal.append([Piece(7, 1, lines(1, 2), ended=True), Piece(8, 1, lines(1, 2))])
    assert journal.prune(0) == 0
    assert journal.prune(FAR_FUTURE_US) == 1
    assert journal.read_after(7, 0) == Slice([], closed=False)
    assert journal.read_after(8, 0).events == lines(1, 2)


class MarkedLogs:
    """Writes to no journal. ``marks`` has the logs, and whether streams wait for them."""

    failing = False

    def __init__(self) -> None:
        self.marks: list[tuple[RunLog, bool]] = []

    def mark(self, log: RunLog, *, awaited: bool = True, ended: bool = False) -> None:
        self.marks.append((log, awaited))


def test_what_opens_a_run_is_shown_before_the_journal_has_it(journal: Journal) -> None:
    writer = MarkedLogs()
    log = RunLog(7, writer)
    log.append(events.session_id("s"))
    log.append(events.run_started("r"))
    shown = log.read_after(0)
    assert shown is not None
    assert types_of(shown) == ["session_id", "run_started"]
    assert writer.marks == [(log, False)]
    log.append(events.plain("r", "a", streaming=True))
    assert log.read_after(0) == shown
    assert writer.marks == [(log, False), (log, True)]


def test_a_log_shows_nothing_else_before_the_journal_has_it(journal: Journal) -> None:
    writer = MarkedLogs()
    log = RunLog(7, writer)
    log.append(events.plain("r", "a", streaming=True))
    assert writer.marks == [(log, True)]
    assert log.read_after(0) == []
    piece = log.take_unwritten()
    log.release(piece)
    assert log.read_after(0) == list(piece.events)
    assert not log.closed
    log.close()
    log.release(log.take_unwritten())
    assert log.closed


class Refusing:
    """A journal that rejects writes until a test allows them."""

    def __init__(self, behind: Journal) -> None:
        self.behind = behind
        self.refuses = True

    def append(self, pieces: Sequence[Piece]) -> Collection[int]:
        if self.refuses:
            raise StorageError("the disk is full")
        return self.behind.append(pieces)

    def __getattr__(self, name: str) -> object:
        return getattr(self.behind, name)


@pytest.fixture
def make_writer() -> Iterator[Callable[[Journal], JournalWriter]]:
    made: list[JournalWriter] = []

    def make(journal: Journal) -> JournalWriter:
        made.append(JournalWriter(journal, Followers(_NoSignals())))
        return made[-1]

    yield make
    for writer in made:
        writer.close()


def test_a_journal_that_fails_stops_no_stream_and_gets_everything_later(
    journal: Journal, make_writer: Callable[[Journal], JournalWriter]
) -> None:
    refusing = Refusing(journal)
    log = RunLog(7, make_writer(refusing))  # type: ignore[arg-type]
    woken = threading.Event()
    log.add_waiter(woken)
    log.append(events.run_started("r"))
    assert woken.wait(30)
    assert len(log.read_after(0) or []) == 1
    assert journal.read_after(7, 0).events == []
    refusing.refuses = False
    log.append(events.end("r"))
    log.close()
    found = wait_for(lambda: (got := journal.read_after(7, 0)).closed and got)
    assert types_of(found.events) == ["run_started", "end"]


def test_a_journal_that_has_failed_gets_everything_before_its_writer_closes(
    make_writer: Callable[[Journal], JournalWriter],
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("astrbot_api.runlog.writer._RETRY_S", LIMIT_S)
    refusing = Refusing(journal)
    writer = make_writer(refusing)  # type: ignore[arg-type]
    log = RunLog(7, writer)
    log.append(events.plain("r", "one", streaming=True))
    wait_for(lambda: log.last_number == 1)
    refusing.refuses = False
    writer.close()
    assert types_of(journal.read_after(7, 0).events) == ["plain"]


def test_a_reader_far_behind_reads_what_memory_no_longer_has(
    journal: Journal, make_writer: Callable[[Journal], JournalWriter]
) -> None:
    log = RunLog(7, make_writer(journal))
    for number in range(60):
        log.append(events.plain("r", f"{number:02}" + "x" * 30_000, streaming=True))
        wait_for(lambda number=number: log.last_number == number + 1)
    log.close()
    wait_for(lambda: log.closed)
    assert log.read_after(0) is None
    reader, seen = LogReader(log, journal, Followers(_NoSignals())), []
    while not reader.closed:
        seen += map(decode_event, reader.read())
    assert [one["data"][:2] for one in seen] == [f"{number:02}" for number in range(60)]


def test_a_reader_of_the_journal_is_woken_by_its_own_worker(journal: Journal) -> None:
    followers = Followers(_NoSignals())
    writer = JournalWriter(journal, followers)
    reader, woken = JournalReader(7, journal, followers), threading.Event()
    reader.attach(woken)
    log = RunLog(7, writer)
    log.append(events.end("r"))
    log.close()
    assert woken.wait(30)
    wait_for(lambda: reader.read() or reader.closed)
    writer.close()


def test_a_line_in_memory_takes_what_its_bytes_take() -> None:
    event = events.plain("r", "a token", streaming=True)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [encode_event(event) for _ in range(1000)]
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held < 1000 * (len(kept[0]) + 100)


def test_the_events_of_many_runs_share_a_transaction(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []

    class Counting:
        def append(self, pieces: Sequence[Piece]) -> Collection[int]:
            batches.append(len(pieces))
            return journal.append(pieces)

    signals, sent = _NoSignals(), list[str]()
    monkeypatch.setattr(signals, "publish", lambda topic, payload: sent.append(payload))
    monkeypatch.setattr("astrbot_api.runlog.writer._MAX_PAYLOAD", 100)
    writer = JournalWriter(Counting(), Followers(signals))  # type: ignore[arg-type]
    logs = [RunLog(number, writer) for number in range(1, 201)]
    for _ in range(10):
        for log in logs:
            log.append(events.plain("r", "x", streaming=True))
    for log in logs:
        log.close()
    wait_for(lambda: all(log.closed for log in logs))
    writer.close()
    assert len(batches) < 50, batches
    assert max(map(len, sent)) < 110
    assert {int(word) for payload in sent for word in payload.split()} == set(range(1, 201))
    assert all(len(journal.read_after(log.run, 0).events) == 10 for log in logs)


def test_a_file_that_cannot_be_opened_is_a_storage_error(tmp_path: Path) -> None:
    """As with too many open files: the first read and write of a process open it."""
    path = tmp_path / "events.db"
    journal = SqliteJournal(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(StorageError):
        journal.read_after(1, 0)
    with pytest.raises(StorageError):
        journal.append([Piece(1, 1, [b"{}"], ended=False)])
    journal.close()


def test_a_file_is_read_and_written_again_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise sqlite3.OperationalError("database or disk is full")

    journal = SqliteJournal(tmp_path / "events.db")
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_events, "_add_rows", fail)
        patched.setattr(sqlite_events, "read_after", fail)
        with pytest.raises(StorageError):
            journal.append([Piece(7, 1, lines(1, 1))])
        with pytest.raises(StorageError):
            journal.read_after(7, 0)
    journal.append([Piece(7, 1, lines(1, 2))])
    assert journal.read_after(7, 0).events == lines(1, 2)
    journal.close()


def test_a_connection_that_is_returned_late_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[sqlite3.Connection] = []
    journal = SqliteJournal(tmp_path / "events.db")

    def read(db: sqlite3.Connection, *args: Any) -> Any:
        used.append(db)
        journal.close()
        return read_after(db, *args)

    read_after = sqlite_events.read_after
    monkeypatch.setattr(sqlite_events, "read_after", read)
    assert journal.read_after(7, 0).events == []
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        used[0].execute("SELECT 1")


def test_a_transaction_reads_no_row_for_each_run(tmp_path: Path) -> None:
    # Each row releases the GIL. A busy worker took 5 ms to get it back, 500 times.
    SqliteJournal(tmp_path / "events.db").close()
    rows: list[Any] = []
    with closing(sqlite3.connect(tmp_path / "events.db")) as db:
        db.row_factory = lambda _, row: rows.append(row) or row
        for first in (1, 2):
            pieces = [Piece(run, first, lines(first, first)) for run in range(1, 501)]
            assert not sqlite_events.append(db, pieces)
    assert rows == []


def test_the_end_of_a_run_comes_after_what_its_worker_adds_meanwhile(
    postgres: Postgres, tmp_path: Path
) -> None:
    url = postgres.create_database()
    journal = open_journal(Settings(data_dir=tmp_path, database_url=url))
    journal.append([Piece(7, 1, lines(1, 2))])
    import psycopg

    with psycopg.connect(url) as worker, ThreadPoolExecutor(1) as pool:
        worker.execute("INSERT INTO run_event VALUES (7, 3, %s)", lines(3, 3))
        ending = pool.submit(journal.end_run, 7, [events.error("r", "x", "y"), events.end("r")])
        sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_for(lambda: postgres.run_sql(sql))
        worker.commit()
        assert ending.result(30)
    found = journal.read_after(7, 0)
    assert found.closed
    assert found.events[:3] == lines(1, 3)
    assert types_of(found.events[3:]) == ["error", "end"]
    journal.close()


@pytest.fixture
def redis_journal(
    redis_server: RedisServer, redis_prefix: str, tmp_path: Path
) -> Iterator[RedisJournal]:
    settings = Settings(data_dir=tmp_path, redis_url=redis_server.url, redis_prefix=redis_prefix)
    opened = open_journal(settings)
    assert isinstance(opened, RedisJournal)
    yield opened
    opened.close()


def _keep_events(server: RedisServer, prefix: str, run: int, count: int) -> None:
    """Keep only the first events of a run, like a replica without the last ones."""
    client = redis.Redis.from_url(server.url)
    stream = f"{prefix}:run:{run}"
    kept = client.xrange(stream, count=count) if count else []
    client.delete(stream)
    for number, fields in kept:
        client.xadd(stream, fields, id=number)
    client.close()


@pytest.mark.parametrize("kept", [0, 2])
def test_events_that_redis_has_lost_are_written_again(
    kept: int,
    redis_journal: RedisJournal,
    redis_server: RedisServer,
    redis_prefix: str,
    make_writer: Callable[[Journal], JournalWriter],
) -> None:
    log = RunLog(7, make_writer(redis_journal))
    for number in range(5):
        log.append(events.plain("r", f"{number}", streaming=True))
    assert log.wait_until_written(LIMIT_S)
    _keep_events(redis_server, redis_prefix, 7, kept)
    log.append(events.end("r"))
    log.close()
    found = wait_for(lambda: (got := redis_journal.read_after(7, 0)).closed and got)
    assert [decode_event(line)["data"] for line in found.events[:5]] == list("01234")
    assert types_of(found.events[5:]) == ["end"]
    assert log.closed


def test_redis_gets_no_events_after_a_gap_that_memory_cannot_fill(
    redis_journal: RedisJournal,
    redis_server: RedisServer,
    redis_prefix: str,
    make_writer: Callable[[Journal], JournalWriter],
) -> None:
    log = RunLog(7, make_writer(redis_journal))
    for number in range(30):
        log.append(events.plain("r", f"{number:02}" + "x" * 30_000, streaming=True))
        wait_for(lambda number=number: log.last_number == number + 1)
    _keep_events(redis_server, redis_prefix, 7, 2)
    log.append(events.end("r"))
    log.close()
    wait_for(lambda: log.incomplete)
    assert types_of(log.read_after(30) or []) == ["end"]
    found = redis_journal.read_after(7, 0)
    assert (len(found.events), found.closed) == (2, False)
    # Another worker can therefore close it.
    assert redis_journal.end_run(7, [events.end("r")])
    behind = LogReader(log, redis_journal, Followers(_NoSignals()), number=3)
    with pytest.raises(StorageError, match="lost events"):
        behind.read()


def test_streams_do_not_wait_for_a_journal_that_does_not_answer(
    journal: Journal,
    make_writer: Callable[[Journal], JournalWriter],
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked, answers = threading.Semaphore(0), threading.Event()

    class Silent(Refusing):
        """Rejects each write only after a long time."""

        def append(self, pieces: Sequence[Piece]) -> Collection[int]:
            if self.refuses:
                asked.release()
                answers.wait(LIMIT_S)
            return super().append(pieces)

    silent = Silent(journal)
    log = RunLog(7, make_writer(silent))  # type: ignore[arg-type]
    log.append(events.plain("r", "0", streaming=True))
    assert asked.acquire(timeout=LIMIT_S)
    answers.set()
    wait_for(lambda: log.last_number == 1)
    answers.clear()
    log.append(events.plain("r", "1", streaming=True))
    assert asked.acquire(timeout=LIMIT_S)  # the next attempt has begun, and does not end
    assert log.last_number == 2
    log.append(events.plain("r", "2", streaming=True))
    log.append(events.end("r"))
    log.close()
    assert log.closed
    assert types_of(log.read_after(0) or []) == ["plain", "plain", "plain", "end"]
    silent.refuses = False
    answers.set()
    found = wait_for(lambda: (got := journal.read_after(7, 0)).closed and got)
    assert types_of(found.events) == ["plain", "plain", "plain", "end"]
    said = [one.getMessage() for one in caplog.records if one.name.endswith("writer")]
    assert [text[:24] for text in said] == ["the events of 1 runs can", "the events of runs are w"]


def test_a_journal_out_of_reach_is_an_error_and_comes_back(
    redis_server: RedisServer, redis_prefix: str, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, redis_url=redis_server.url, redis_prefix=redis_prefix)
    journal = open_journal(settings)
    journal.append([Piece(7, 1, lines(1, 2))])
    redis_server.kill()
    with pytest.raises(StorageError, match="Try again later"):
        journal.append([Piece(7, 3, lines(3, 3))])
    with pytest.raises(StorageError):
        journal.read_after(7, 0)
    redis_server.start()
    journal.append([Piece(7, 3, lines(3, 3))])
    assert journal.read_after(7, 0).events == lines(1, 3)
    journal.close()


@pytest.mark.parametrize("boot", [4711, 0])  # 0: /proc/sys is hidden, as by ProcSubset=pid
def test_a_file_that_a_power_cut_has_broken_is_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: int
) -> None:
    path = tmp_path / "events.db"
    read_boot = "astrbot_api.runlog.sqlite_journal._read_boot"
    monkeypatch.setattr(read_boot, lambda: boot and boot - 1)
    first = SqliteJournal(path)
    first.append([Piece(7, 1, [b"x" * 4000] * 50)])
    first.close()
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 9] = bytes(4096 * 6)
    path.write_bytes(data)
    monkeypatch.setattr(read_boot, lambda: boot)
    second = SqliteJournal(path)
    second.append([Piece(8, 1, lines(1, 2))])
    assert second.read_after(7, 0).events == []
    assert second.read_after(8, 0).events == lines(1, 2)
    second.close()
    assert path.with_name("events.db.broken").exists()
    third = SqliteJournal(path)
    assert third.read_after(8, 0).events == lines(1, 2)
    third.close()


def test_a_journal_of_an_older_layout_is_read(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "events.db")) as old:
        old.executescript(
            "CREATE TABLE event (run INTEGER NOT NULL, number INTEGER NOT NULL,"
            " frame TEXT NOT NULL, PRIMARY KEY (run, number)) WITHOUT ROWID;"
            "CREATE TABLE ended (run INTEGER PRIMARY KEY, last INTEGER NOT NULL,"
            " ended_at INTEGER NOT NULL);"
        )
        for number, line in enumerate(lines(1, 3), 1):
            frame = f"data: {line.decode()}\nid: {number}\n\n"
            old.execute("INSERT INTO event VALUES (7, ?, ?)", (number, frame))
        old.execute("INSERT INTO ended VALUES (7, 3, 1)")
        old.commit()
    for _ in range(2):  # converted once
        journal = SqliteJournal(tmp_path / "events.db")
        assert journal.read_after(7, 0) == Slice(lines(1, 3), closed=True)
        journal.close()


def test_a_redis_entry_of_an_older_layout_is_read(
    redis_server: RedisServer, redis_prefix: str, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, redis_url=redis_server.url, redis_prefix=redis_prefix)
    with redis.from_url(redis_server.url) as client:
        client.xadd(f"{redis_prefix}:run:7", {"f": "data: {}\nid: 1\n\n"}, id="1-0")
    journal = open_journal(settings)
    assert journal.read_after(7, 0).events == [b"{}"]
    journal.close()


class Held:
    """A journal whose transactions a test releases one by one."""

    def __init__(self) -> None:
        self.batches: list[list[Piece]] = []
        self.go_on = threading.Semaphore(0)

    def append(self, pieces: Sequence[Piece]) -> Collection[int]:
        self.batches.append(list(pieces))
        assert self.go_on.acquire(timeout=LIMIT_S)
        return ()


def test_a_quiet_worker_writes_the_end_of_an_answer_at_once(
    make_writer: Callable[[Journal], JournalWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A pace longer than any test, so only urgent events are written.
    monkeypatch.setattr("astrbot_api.runlog.writer._PACE_S", LIMIT_S * 10)
    monkeypatch.setattr("astrbot_api.runlog.writer._BURST", 0.0)
    held = Held()
    held.go_on.release()
    log = RunLog(7, make_writer(held))  # type: ignore[arg-type]
    log.append(events.plain("r", "waits for its pace", streaming=True))
    log.append(events.end("r"))
    log.close()
    wait_for(lambda: log.closed)
    assert [len(piece.events) for (piece,) in held.batches] == [2]


def test_a_run_whose_end_is_written_before_its_thread_continues_is_forgotten(
    make_writer: Callable[[Journal], JournalWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held()
    held.go_on = threading.Semaphore(1000)
    writer = make_writer(held)  # type: ignore[arg-type]
    log = RunLog(7, writer)
    log.append(events.plain("r", "one", streaming=True))
    wait_for(lambda: log.last_number == 1)

    def write_first() -> None:
        writer._wake.set()
        wait_for(lambda: log.closed and log not in writer._open)

    with monkeypatch.context() as patched:
        patched.setattr(writer, "_thread", SimpleNamespace(get=write_first))
        log.close()
    assert not writer._open


def test_what_opens_a_run_is_written_with_its_first_words(
    make_writer: Callable[[Journal], JournalWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astrbot_api.runlog.writer._LINGER_S", LIMIT_S * 10)
    held = Held()
    held.go_on.release()
    log = RunLog(7, make_writer(held))  # type: ignore[arg-type]
    log.append(events.session_id("s"))
    log.append(events.run_started("r"))
    log.append(events.plain("r", "does not wait", streaming=True))
    wait_for(lambda: log.last_number == 3)
    assert [len(piece.events) for (piece,) in held.batches] == [3]


def test_what_opens_a_run_whose_model_thinks_is_written_soon(
    make_writer: Callable[[Journal], JournalWriter],
) -> None:
    held = Held()
    log = RunLog(7, make_writer(held))  # type: ignore[arg-type]
    log.append(events.session_id("s"))
    log.append(events.run_started("r"))
    wait_for(lambda: bool(held.batches))
    held.go_on.release()
    assert [len(piece.events) for (piece,) in held.batches] == [2]


def test_a_worker_of_many_short_answers_keeps_its_pace(
    make_writer: Callable[[Journal], JournalWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each is in one piece with its end, so the journal never has half of it.
    monkeypatch.setattr("astrbot_api.runlog.writer._PACE_S", 1.0)
    monkeypatch.setattr("astrbot_api.runlog.writer._BURST", 1.0)
    held = Held()
    writer = make_writer(held)  # type: ignore[arg-type]
    began = time.monotonic()
    logs = [RunLog(number, writer) for number in range(4)]
    for log in logs:
        log.append(events.plain("r", "short", streaming=True))
        log.append(events.end("r"))
        log.close()
        wait_for(lambda: bool(held.batches))
    held.go_on.release(100)
    wait_for(lambda: all(log.closed for log in logs))
    assert time.monotonic() - began >= 0.9


@pytest.mark.parametrize(("ends", "limit_s"), [(False, 0.2), (True, 0.02)])
def test_only_streams_in_the_middle_of_their_answer_wait_for_slow_sending(
    make_writer: Callable[[Journal], JournalWriter],
    monkeypatch: pytest.MonkeyPatch,
    *,
    ends: bool,
    limit_s: float,
) -> None:
    # They wait at most until the worker is idle; other pauses are no longer than the pace.
    clock, pauses, limits = [0.0], [0.0], [0.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds or 0.5  # sending takes half a second

    clock_of_writer = SimpleNamespace(sleep=sleep, monotonic=lambda: clock[0])
    monkeypatch.setattr("astrbot_api.runlog.writer.time", clock_of_writer)
    monkeypatch.setattr("astrbot_api.runlog.writer.wait_until_idle", limits.append)
    held = Held()
    held.go_on = threading.Semaphore(1000)
    writer = make_writer(held)  # type: ignore[arg-type]
    logs = [RunLog(number, writer) for number in range(4)]
    for log in logs:
        log.append(events.plain("r", "one", streaming=True))
        wait_for(lambda log=log: log.last_number == 1)
    limits.clear()
    for log in logs:
        log.append(events.plain("r", "two", streaming=True))
        if ends:
            log.append(events.end("r"))
            log.close()
        wait_for(lambda log=log: log.last_number > 1)
    assert max(limits) == limit_s
    assert max(pauses) <= 0.02


def test_the_tokens_of_a_long_answer_are_grouped(
    make_writer: Callable[[Journal], JournalWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astrbot_api.runlog.writer._PACE_S", LIMIT_S * 10)
    monkeypatch.setattr("astrbot_api.runlog.writer._BURST", 3.0)
    held = Held()
    held.go_on = threading.Semaphore(1000)
    log = RunLog(7, make_writer(held))  # type: ignore[arg-type]
    for number in range(50):
        log.append(events.plain("r", "x", streaming=True))
        if number < 2:
            wait_for(lambda number=number: log.last_number == number + 1)
    log.close()
    wait_for(lambda: log.closed)
    assert len(held.batches) <= 4
    assert sum(len(piece.events) for batch in held.batches for piece in batch) == 50


def test_a_run_that_is_taken_over_refuses_its_earlier_worker(journal: Journal) -> None:
    rewind = events.rewind("r", 2, 5, again=True)
    journal.append([Piece(7, 1, lines(1, 3)), Piece(8, 1, lines(1, 1))])
    assert not journal.take_over(7, 1, 2, [rewind])  # one more event arrived meanwhile
    assert journal.take_over(7, 1, 3, [rewind])
    assert list(journal.append([Piece(7, 4, lines(4, 9)), Piece(8, 2, lines(2, 2))])) == [7]
    assert list(journal.append([Piece(7, 1, lines(1, 9))])) == [7]  # not even from the beginning
    assert not journal.append([Piece(7, 5, lines(5, 6), ended=True, epoch=1)])
    found = journal.read_after(7, 0)
    assert found == Slice([*lines(1, 3), encode_event(rewind), *lines(5, 6)], closed=True)
    assert journal.read_after(8, 0).events == lines(1, 2)
    assert not journal.take_over(7, 2, 6, [])  # it has ended


def test_of_two_that_take_a_run_over_the_later_one_wins(journal: Journal) -> None:
    journal.append([Piece(7, 1, lines(1, 2))])
    assert journal.take_over(7, 2, 2, [])
    assert not journal.take_over(7, 1, 2, [])
    assert list(journal.append([Piece(7, 3, lines(3, 3), epoch=1)])) == [7]
    assert not journal.append([Piece(7, 3, lines(3, 3), epoch=2)])


def test_a_run_of_a_new_database_begins_under_a_number_that_was_taken_over_once(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.append([Piece(7, 1, lines(1, 2))])
    assert journal.take_over(7, 1, 2, [])
    assert journal.append([Piece(7, 1, lines(1, 1))])
    journal.append([Piece(7, 3, [], ended=True, epoch=1)])
    journal.prune(FAR_FUTURE_US)
    assert not journal.append([Piece(7, 1, lines(1, 1))])


def test_the_readers_of_a_lost_log_read_the_journal(
    journal: Journal, make_writer: Callable[[Journal], JournalWriter]
) -> None:
    lost = threading.Event()
    log = RunLog(7, make_writer(journal))
    log.on_lost = lost.set
    log.append(events.plain("r", "one", streaming=True))
    wait_for(lambda: log.last_number == 1)
    followers, woken = Followers(_NoSignals()), threading.Event()
    reader, late = (LogReader(log, journal, followers) for _ in range(2))
    reader.attach(woken)
    assert types_of(reader.read()) == ["plain"]
    assert journal.take_over(7, 1, 1, [events.rewind("r", 0, 3, again=True)])
    log.append(events.plain("r", "two", streaming=True))
    assert lost.wait(LIMIT_S)
    other = RunLog(7, make_writer(journal), after=2, epoch=1)
    other.append(events.end("r"))
    other.close()
    wait_for(lambda: journal.read_after(7, 2).closed)
    assert types_of(reader.read()) == ["rewind", "end"]
    assert types_of(late.read()) == ["plain", "rewind", "end"]
    assert reader.closed
    woken.clear()
    followers.notify("7")
    assert woken.is_set()
    reader.detach(woken)
    assert not followers._waiters
    assert not log.wait_until_written(0.0)


def test_a_run_that_another_worker_has_taken_over_is_forgotten(
    make_writer: Callable[[Journal], JournalWriter],
) -> None:
    held = Held()
    held.go_on = threading.Semaphore(1000)
    writer = make_writer(held)  # type: ignore[arg-type]
    log = RunLog(7, writer)
    log.append(events.plain("r", "one", streaming=True))
    assert log.wait_until_written(LIMIT_S)
    log.mark_lost()
    wait_for(lambda: not writer._open, 10)


def test_a_lost_log_takes_back_what_the_journal_never_got(
    journal: Journal, make_writer: Callable[[Journal], JournalWriter]
) -> None:
    refusing = Refusing(journal)
    refusing.refuses = False
    log = RunLog(7, make_writer(refusing))  # type: ignore[arg-type]
    log.make_rewind = partial(make_rewind, "r")
    log.append(events.plain("r", "one", streaming=True))
    assert log.wait_until_written(LIMIT_S)
    refusing.refuses = True
    for text in ("two", "three"):
        log.append(events.plain("r", text, streaming=True))
    wait_for(lambda: log.last_number == 3)
    reader = LogReader(log, journal, Followers(_NoSignals()))
    assert types_of(reader.read()) == ["plain"] * 3
    assert journal.take_over(7, 1, 1, [events.plain("r", "other", streaming=True)])
    log.mark_lost()
    (event,) = map(decode_event, reader.read())
    assert (event, reader.number) == (events.rewind("r", 1, 8, again=True), 1)
    assert [decode_event(one)["data"] for one in reader.read()] == ["other"]
