"""The journal for several hosts: one Redis stream per run.

The id of a stream entry is the event's number. An event is therefore stored at most once.
A Redis that was emptied, or replaced by an older replica, has lost the last events of running
turns. A stream never has a gap: their workers write the lost events again from memory.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from ..errors import StorageError
from ..events import Event, encode_event
from ..runtime.clock import now_us
from ..runtime.redis_client import open_redis
from .journal import EPOCH_KEPT_US, READ_BYTES, READ_LIMIT, Journal, JournalGap, Piece, Slice

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds after which Redis expires a run whose end was never recorded.
_KEEP_AT_MOST_S = 7 * 24 * 3600

# One script call for all pieces, so that all of them are stored or none.
# KEYS: the set of ended runs; then, for each piece, its stream, its end and its epoch.
# ARGV: the time; then, for each piece: run, epoch, first number, ended, count, events.
# Returns 0 and the rejected runs; or 1 and, for each run with a gap, its number and its last event.
_APPEND = """
local pieces, gaps, at = {}, {1}, 2
while at <= #ARGV do
  local key, first = #pieces*3, tonumber(ARGV[at+2])
  local piece = {at=at, first=first, last=0, stream=KEYS[key+2], ending=KEYS[key+3]}
  piece.refused = tonumber(ARGV[at+1]) < tonumber(redis.call('GET', KEYS[key+4]) or '0')
  if first > 1 and not piece.refused then
    piece.refused = redis.call('EXISTS', piece.ending) == 1
    local tail = redis.call('XREVRANGE', piece.stream, '+', '-', 'COUNT', 1)
    if tail[1] then piece.last = tonumber(string.match(tail[1][1], '^%d+')) end
    if first > piece.last + 1 and not piece.refused then
      gaps[#gaps+1], gaps[#gaps+2] = tonumber(ARGV[at]), piece.last
    end
  end
  pieces[#pieces+1], at = piece, at + 5 + tonumber(ARGV[at+4])
end
if gaps[2] then return gaps end
local refused = {0}
for _, piece in ipairs(pieces) do
  local run, ended, count = ARGV[piece.at], ARGV[piece.at+3], tonumber(ARGV[piece.at+4])
  if piece.refused then
    refused[#refused+1] = tonumber(run)
  else
    if piece.first == 1 then
      redis.call('DEL', piece.stream, piece.ending)
      redis.call('ZREM', KEYS[1], run)
    end
    for index = 1, count do
      local number = piece.first + index - 1
      if number > piece.last then
        local event = ARGV[piece.at+4+index]
        redis.call('XADD', piece.stream, string.format('%d-0', number), 'e', event)
      end
    end
    redis.call('EXPIRE', piece.stream, KEEP)
    if ended == '1' then
      redis.call('SET', piece.ending, piece.first + count - 1, 'EX', KEEP)
      redis.call('ZADD', KEYS[1], ARGV[1], run)
    end
  end
end
return refused
""".replace("KEEP", str(_KEEP_AT_MOST_S))

# KEYS: the set of ended runs, the stream, its end. ARGV: time, run, last number, events.
_END = """
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
local tail, last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1), 0
if tail[1] then last = tonumber(string.match(tail[1][1], '^%d+')) end
if last ~= tonumber(ARGV[3]) then return -1 end
for index = 4, #ARGV do
  last = last + 1
  redis.call('XADD', KEYS[2], string.format('%d-0', last), 'e', ARGV[index])
end
redis.call('EXPIRE', KEYS[2], KEEP)
redis.call('SET', KEYS[3], last, 'EX', KEEP)
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
return 1
""".replace("KEEP", str(_KEEP_AT_MOST_S))

# KEYS: the stream, its end, its epoch. ARGV: the epoch, the last number, events.
_TAKE = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
if tonumber(ARGV[1]) < tonumber(redis.call('GET', KEYS[3]) or '0') then return 0 end
local tail, last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1), 0
if tail[1] then last = tonumber(string.match(tail[1][1], '^%d+')) end
if last ~= tonumber(ARGV[2]) then return 0 end
for index = 3, #ARGV do
  last = last + 1
  redis.call('XADD', KEYS[1], string.format('%d-0', last), 'e', ARGV[index])
end
redis.call('EXPIRE', KEYS[1], KEEP)
redis.call('SET', KEYS[3], ARGV[1], 'EX', EPOCH)
return 1
""".replace("KEEP", str(_KEEP_AT_MOST_S)).replace("EPOCH", str(EPOCH_KEPT_US // 1_000_000))

# KEYS: the stream, its end. ARGV: the first number, maximum events, maximum bytes.
# Returns the end or false, and the events up to the first gap.
_READ = """
local events, number, size, page = {}, tonumber(ARGV[1]), 0, nil
repeat
  page = redis.call('XRANGE', KEYS[1], string.format('%d-0', number), '+', 'COUNT', 16)
  for _, entry in ipairs(page) do
    local gap = tonumber(string.match(entry[1], '^%d+')) ~= number
    if gap or #events >= tonumber(ARGV[2]) or size >= tonumber(ARGV[3]) then
      page = {}
      break
    end
    events[#events+1], number, size = entry[2][2], number + 1, size + #entry[2][2]
  end
until #page < 16
return {redis.call('GET', KEYS[2]), events}
"""

#: Seconds between two lines about failures in the log.
_LOG_EVERY_S = 10.0

_PRUNED_AT_ONCE = 200

#: Maximum number of attempts to end a run while another worker still adds to it.
_MAX_ATTEMPTS = 20


class RedisJournal(Journal):
    """Events in Redis.

    :param prefix: Prefix of every key. Servers with the same prefix share their runs.
    """

    def __init__(self, url: str, prefix: str) -> None:
        self._client: Any = open_redis(url)
        self._prefix = prefix
        self._quiet_until = 0.0
        self._ended = f"{prefix}:ended"
        self._append = self._client.register_script(_APPEND)
        self._end = self._client.register_script(_END)
        self._take = self._client.register_script(_TAKE)
        self._read = self._client.register_script(_READ)

    def append(self, pieces: Sequence[Piece]) -> Collection[int]:
        """Store events of any number of runs, and return the runs whose events were rejected.

        :raises JournalGap: when Redis has lost earlier events of a run.
        """
        keys: list[str] = [self._ended]
        values: list[Any] = [now_us()]
        for piece in pieces:
            keys += self._keys_of(piece.run)
            values += [piece.run, piece.epoch, piece.first, int(piece.ended), len(piece.events)]
            values += piece.events
        has_gaps, *found = self._ask(lambda: self._append(keys, values))
        if has_gaps:
            raise JournalGap(dict(zip(found[::2], found[1::2], strict=True)))
        refused = set(found)
        for run in refused:
            log.warning(
                "run %d ended or was taken over; events of its former worker are dropped", run
            )
        return refused

    def read_after(self, run: int, number: int, limit: int = READ_LIMIT) -> Slice:
        """Return the events of a run after ``number``, up to the first gap."""
        stream, ending, _ = self._keys_of(run)
        values = [number + 1, limit, READ_BYTES]
        last, lines = self._ask(lambda: self._read([stream, ending], values))
        events = [_read_frame(line) if line.startswith(b"data:") else line for line in lines]
        return Slice(events, closed=last is not None and number + len(events) >= int(last))

    def take_over(self, run: int, epoch: int, after: int, events: Sequence[Event]) -> bool:
        values = [epoch, after, *map(encode_event, events)]
        return bool(self._ask(lambda: self._take(self._keys_of(run), values)))

    def end_run(self, run: int, events: Sequence[Event]) -> bool:
        stream, ending, _ = self._keys_of(run)
        lines = [encode_event(event) for event in events]
        for _ in range(_MAX_ATTEMPTS):
            tail = self._ask(lambda: self._client.xrevrange(stream, count=1))
            last = int(tail[0][0].partition(b"-")[0]) if tail else 0
            keys, values = [self._ended, stream, ending], [now_us(), run, last, *lines]
            done = self._ask(lambda keys=keys, values=values: self._end(keys, values))  # type: ignore[misc]
            if done >= 0:
                return bool(done)
        raise StorageError("The run is still being added to; try again later.")

    def prune(self, ended_before_us: int) -> int:
        def forget() -> int:
            runs = self._client.zrangebyscore(
                self._ended, "-inf", f"({ended_before_us}", start=0, num=_PRUNED_AT_ONCE
            )
            if runs:
                pipeline = self._client.pipeline(transaction=True)
                for run in runs:
                    pipeline.delete(*self._keys_of(int(run)))
                pipeline.zrem(self._ended, *runs)
                pipeline.execute()
            return len(runs)

        return self._ask(forget)

    def close(self) -> None:
        self._client.close()
        self._client.connection_pool.disconnect()

    def _keys_of(self, run: int) -> list[str]:
        stream = f"{self._prefix}:run:{run}"
        return [stream, f"{stream}:end", f"{stream}:epoch"]

    def _ask(self, job: Callable[[], T]) -> T:
        """Run commands against Redis.

        :raises StorageError: when Redis is unreachable or rejects a command.
        """
        from redis.exceptions import RedisError

        try:
            return job()
        except (RedisError, OSError) as error:
            if time.monotonic() >= self._quiet_until:
                # Every stream on another worker asks once a second during an outage.
                self._quiet_until = time.monotonic() + _LOG_EVERY_S
                words = " ".join(str(error).split()) or type(error).__name__
                log.error("Redis (ASTRBOT_REDIS_URL): %s; see `astrbot-api doctor`", words)
            raise StorageError(
                "The server could not store or read the events of its runs. Try again later."
            ) from error


def _read_frame(frame: bytes) -> bytes:
    """Return the event of an entry in the older layout: ``data: {…}``, then ``id:``."""
    return frame[6 : frame.index(b"\n")]
