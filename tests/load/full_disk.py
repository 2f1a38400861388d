"""The disk is full for some time."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .scenario import Result, pause
from .traffic import traffic
from .world import Skipped, World

_SIZE_MIB = 200

#: Seconds for which the disk is full.
_FULL_S = 6.0


def fill_disk(size: float) -> Result:
    """Fill the file system of the data directory under load, and kill a worker meanwhile."""
    rounds = max(1, round(2 * size))
    result = Result(f"a disk full {rounds} times for {_FULL_S} s, a worker killed meanwhile")
    chance = random.Random(1)
    # Otherwise the server rejects new data before the disk is full.
    with (
        _small_disk() as folder,
        World(data_dir=folder, ASTRBOT_MIN_FREE_BYTES="0") as world,
    ):
        with traffic(world, result.ledger, min(1.0, size)):
            pause(2)
            for _ in range(rounds):
                filler = _fill(folder)
                pause(_FULL_S / 2)
                world.kill_worker(chance.choice)
                _fill_up(filler)
                pause(_FULL_S / 2)
                filler.unlink()
                result.note_recovery(world.wait_until_it_serves())
                pause(2)
        result.notes = f"{result.ledger.errors['storage_error']} requests found no room."
        # Unsaved events of a worker are lost with that worker.
        return result.finish(world, keep_logs=False)


@contextmanager
def _small_disk() -> Iterator[Path]:
    """Mount a small file system in memory.

    :raises Skipped: if mounting is not allowed.
    """
    folder = Path(tempfile.mkdtemp(prefix="astrbot-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE_MIB}m", "none", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        folder.rmdir()
        raise Skipped(
            f"cannot mount a file system ({done.stderr.strip()}); as root, or under `unshare -rm`"
        )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _fill(folder: Path) -> Path:
    filler = folder / "filler"
    _fill_up(filler)
    return filler


def _fill_up(filler: Path) -> None:
    """Write to a file until no space is left."""
    with filler.open("ab", buffering=0) as file:
        for piece_bytes in (1024 * 1024, 4096, 1):
            with suppress(OSError):
                while file.write(bytes(piece_bytes)):
                    pass
