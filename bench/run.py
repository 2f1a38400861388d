"""``make bench``: this server beside bare Flask and bare WSGI, as ratios of one run.

Each figure stands beside what it is compared with, measured in turns on the
same gunicorn: on a busy machine single numbers move by a third, ratios much
less. Prints what was reached, and writes ``bench.json`` and a PNG a measure.
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
    "bots": ("An authenticated GET /im/bots", measure_bots),
    "sessions": ("A page of sessions", measure_sessions),
    "turns": ("Whole chat turns", measure_turns),
    "lone": ("A lone turn", measure_lone),
    "tokens": ("Tokens a second", measure_tokens),
    "open_streams": ("Open streams", measure_open_streams),
    "files": ("Upload and download", measure_files),
    "accel": ("Downloads that nginx sends", measure_accel),
    "fast_streams": ("Streams of 20 tokens a second", measure_fast_streams),
    "many_streams": ("Very many streams", measure_many_streams),
    "other_worker": ("Streams read from another worker", measure_other_worker),
    "crowd": ("Chats that begin together", measure_crowd),
    "push": ("Pushed messages", measure_pushes),
    "gateway": ("In front of an AstrBot", measure_gateway),
}


def main() -> None:
    """Measure what is asked for; print it, keep it, draw it."""
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
    parser.add_argument("--small", action="store_true", help="only see that everything works")
    parser.add_argument("--rounds", type=int, help="how often the contestants take turns")
    parser.add_argument("--seconds", type=float, help="length of one round of load")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    options = parser.parse_args()
    if unknown := set(options.names) - set(MEASURES):
        parser.error(f"there is no measure {', '.join(sorted(unknown))}")
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
        print("  no picture: pip install 'astrbot-api[bench]'")
        return
    draw(title, finding.panels, path)


def _write(path: Path, report: dict[str, Any]) -> None:
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
