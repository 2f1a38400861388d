"""``make torture``: inject faults under load and check that no data is lost.

::

    python -m tests.load.run [NAME …] [--size 1.0] [--list]

Prints one line per scenario, and a table at the end. The exit code is 1 if acknowledged data is
missing, an error was unclear, or the server did not recover without help.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable

from .clock_jumps import jump_clock
from .full_disk import fill_disk
from .half_open import leave_half_open
from .hostile import attack
from .hung_provider import hang_provider
from .kills import kill_workers, kill_workers_shared
from .many_connections import open_many_connections
from .outages import restart_postgres, restart_redis
from .running import kill_running, kill_running_shared, roll, roll_shared
from .scenario import Result
from .slow_readers import read_slowly
from .stopping import stop_and_reload
from .world import Skipped

SCENARIOS: dict[str, Callable[[float], Result]] = {
    "kill": kill_workers,
    "kill-shared": kill_workers_shared,
    "kill-running": kill_running,
    "kill-running-shared": kill_running_shared,
    "rolling": roll,
    "rolling-shared": roll_shared,
    "postgres": restart_postgres,
    "redis": restart_redis,
    "disk": fill_disk,
    "slow": read_slowly,
    "half-open": leave_half_open,
    "hang": hang_provider,
    "connections": open_many_connections,
    "clock": jump_clock,
    "reload": stop_and_reload,
    "hostile": attack,
}

#: Maximum number of printed faults of a scenario.
_MAX_SHOWN = 15


def main(arguments: list[str]) -> int:
    """Run scenarios. Return 0 if nothing was lost."""
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--size", type=float, default=1.0, help="of the load; 1 is the default")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(SCENARIOS))
        return 0
    unknown = set(options.names) - set(SCENARIOS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    names = options.names or list(SCENARIOS)
    results = {}
    for name in names:
        began = time.monotonic()
        results[name] = _run(SCENARIOS[name], options.size)
        _print_line(name, results[name], time.monotonic() - began)
    _print_table(results)
    return 1 if any(one.ledger.faults for one in results.values()) else 0


def _run(scenario: Callable[[float], Result], size: float) -> Result:
    try:
        return scenario(size)
    except Skipped as error:
        return Result("", skipped=str(error))
    except Exception as error:
        traceback.print_exc()
        result = Result("")
        result.ledger.faults.append(f"the scenario failed: {type(error).__name__}: {error}")
        return result


def _print_line(name: str, result: Result, took_s: float) -> None:
    if result.skipped:
        print(f"{name}: skipped: {result.skipped}", flush=True)
        return
    counts = ", ".join(f"{n} {kind}" for kind, n in result.ledger.acknowledged().items() if n)
    errors = ", ".join(f"{code} {n}" for code, n in sorted(result.ledger.errors.items()))
    print(
        f"{name}: {result.did}. Acknowledged: {counts or 'nothing'}. "
        f"Lost: {len(result.ledger.faults)}. Errors: {errors or 'none'}. "
        f"Served again after {result.recovery_s:.1f} s. {result.notes} ({took_s:.0f} s)",
        flush=True,
    )
    for fault in result.ledger.faults[:_MAX_SHOWN]:
        print(f"    {fault}", flush=True)
    hidden = len(result.ledger.faults) - _MAX_SHOWN
    if hidden > 0:
        print(f"    and {hidden} more", flush=True)


def _print_table(results: dict[str, Result]) -> None:
    row = "{:<16} {:>9} {:>8} {:>12} {:>6} {:>7} {:>12}"
    print()
    print(row.format("scenario", "messages", "uploads", "key changes", "errors", "faults",
                     "recovery (s)"))  # fmt: skip
    for name, result in results.items():
        counts = result.ledger.acknowledged()
        outcome = "skipped" if result.skipped else str(len(result.ledger.faults))
        print(
            row.format(
                name, counts["messages"], counts["uploads"], counts["key changes"],
                result.ledger.errors.total(), outcome, f"{result.recovery_s:.1f}",
            )
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
