"""Description of the machine, and detection of other load on it."""

from __future__ import annotations

import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PROBES = 8
_PROBE_S = 0.05


def describe() -> dict[str, Any]:
    """Return the properties of the machine that are needed to compare figures."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in _lines("/proc/cpuinfo")
            if "model name" in line
        ),
        platform.processor(),
    )
    memory_kb = next((int(line.split()[1]) for line in _lines("/proc/meminfo")), 0)
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory_kb / 1e6, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("gunicorn", "gevent", "Flask", "peewee")},
        "load_at_start": [round(one, 2) for one in os.getloadavg()],
        "date": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
    }


class Noise:
    """Runs the same loop repeatedly. Only other load on the machine makes it slower.

    The loop only uses the CPU and takes about 50 ms on a free core.
    """

    def __init__(self) -> None:
        self._steps = 10_000
        while (took := _spin(self._steps)) < _PROBE_S:
            self._steps = int(self._steps * max(1.1, min(10, _PROBE_S / took)))
        self.best_ms = float("inf")

    def probe(self) -> list[float]:
        """Return the milliseconds of some loops."""
        found = [_spin(self._steps) * 1000 for _ in range(_PROBES)]
        self.best_ms = min(self.best_ms, *found)
        return found

    def sum_up(self, before: list[float], after: list[float]) -> dict[str, float]:
        """Compare the loops before and after a measure.

        :returns: ``spread_percent``: difference between slowest and fastest loop;
            ``slower_percent``: median above the best loop of the run so far.
        """
        both = before + after
        median = statistics.median(both)
        return {
            "loop_ms": round(median, 1),
            "spread_percent": round(100 * (max(both) - min(both)) / median),
            "slower_percent": round(100 * (median / self.best_ms - 1)),
            "load": round(os.getloadavg()[0], 2),
        }


def _spin(steps: int) -> float:
    started = time.perf_counter()
    total = 0
    for number in range(steps):
        total += number & 7
    return time.perf_counter() - started


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
