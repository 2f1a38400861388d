"""``make bench``: compare this server with bare Flask and bare WSGI.

The programs run in turn on the same gunicorn, because ratios vary less than absolute numbers on a
busy machine. Prints the results, and writes ``bench.json`` and one PNG per measure.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from bench import machine
from bench.bots import measure_bots
from bench.figures import SMALL, Finding, Sizes, to_plain
from bench.files import measure_accel, measure_files
from bench.gateway import measure_gateway
from bench.lone import measure_lone
from bench.open_streams import measure_many_streams, measure_open_streams
from bench.push import measure_other_worker, measure_pushes
from bench.sessions import measure_sessions
from bench.tokens import measure_fast_streams, measure_tokens
from bench.turns import measure_crowd, measure_turns

MEASURES: dict[str, tuple[str, Callable[[Sizes], Finding]]] = {
    "bots": ("Authenticated GET /im/bots", measure_bots),
    "sessions": ("A page of sessions", measure_sessions),
    "turns": ("Whole chat turns", measure_turns),
    "lone": ("A single turn", measure_lone),
    "tokens": ("Tokens per second", measure_tokens),
    "open_streams": ("Open streams", measure_open_streams),
    "files": ("Upload and download", measure_files),
    "accel": ("Downloads sent by nginx", measure_accel),
    "fast_streams": ("Streams of 20 tokens per second", measure_fast_streams),
    "many_streams": ("Thousands of streams", measure_many_streams),
    "other_worker": ("Streams read from another worker", measure_other_worker),
    "crowd": ("Simultaneous chats", measure_crowd),
    "push": ("Pushed messages", measure_pushes),
    "gateway": ("Gateway for an AstrBot", measure_gateway),
}


def main() -> None:
    """Run the selected measures, print and store the results, draw the charts."""
    options = _parse_arguments()
    sizes = SMALL if options.small else Sizes()
    asked = {"rounds": options.rounds, "seconds": options.seconds}
    sizes = replace(sizes, **{name: value for name, value in asked.items() if value})
    options.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "machine": machine.describe(), "small": options.small, "measures": {},
    }  # fmt: skip
    print(json.dumps(report["machine"]))
    noise = machine.Noise()
    began = time.monotonic()
    for name in options.names or MEASURES:
        title, measure = MEASURES[name]
        before, started = noise.probe(), time.monotonic()
        finding = measure(sizes)
        took_s = time.monotonic() - started
        report["measures"][name] = {
            "title": title, **finding.to_json(), "took_s": round(took_s, 1),
            "noise": noise.sum_up(before, noise.probe()),
        }  # fmt: skip
        _print(name, title, finding, report["measures"][name])
        _draw(title, finding, options.out / f"{name}.png")
        _write(options.out / "bench.json", report)
    print(f"\n{time.monotonic() - began:.0f} s; {options.out / 'bench.json'}")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="MEASURE", help=", ".join(MEASURES))
    parser.add_argument("--small", action="store_true", help="only check that all measures work")
    parser.add_argument("--rounds", type=int, help="number of rounds")
    parser.add_argument("--seconds", type=float, help="length of one round of load")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    options = parser.parse_args()
    if unknown := set(options.names) - set(MEASURES):
        parser.error(f"unknown measure: {', '.join(sorted(unknown))}")
    return options


def _print(name: str, title: str, finding: Finding, kept: dict[str, Any]) -> None:
    quiet = kept["noise"]
    print(
        f"\n{name}: {title} ({kept['took_s']} s; noise: loops {quiet['spread_percent']} % apart, "
        f"{quiet['slower_percent']} % above the best, load {quiet['load']})"
    )
    for what, figure in to_plain(finding.figures).items():
        print(f"  {what}: {json.dumps(figure)}")
    for aim in finding.aims:
        print(f"  -> {aim}", flush=True)


def _draw(title: str, finding: Finding, path: Path) -> None:
    try:
        from bench.plots import draw
    except ImportError:
        print("  no chart: pip install 'astrbot-api[bench]'")
        return
    draw(title, finding.panels, path)


def _write(path: Path, report: dict[str, Any]) -> None:
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
