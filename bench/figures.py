"""Results of measures: figures, goals and charts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

#: Names of the compared programs.
OURS, FLASK, WSGI = "this server", "bare Flask", "bare WSGI"


@dataclass(frozen=True)
class Sizes:
    """Amount of work. With the defaults, the whole run takes about ten minutes.

    :param rounds: Number of rounds; the result is their median.
    :param seconds: Length of one round of load.
    """

    rounds: int = 5
    seconds: float = 2.0
    sessions: int = 1_000_000
    open_streams: int = 1000
    fast_streams: int = 500
    many_streams: int = 5000
    file_bytes: int = 64 * 1024 * 1024
    crowd: int = 500
    pushed: int = 1000


#: Only checks that all measures work. The figures are meaningless.
SMALL = Sizes(
    rounds=1, seconds=0.5, sessions=20_000, open_streams=50, fast_streams=20, many_streams=100,
    file_bytes=4 * 1024 * 1024, crowd=20, pushed=100,
)  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """A figure with its values of several rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.values)

    def to_json(self) -> dict[str, float]:
        """Return the median and the spread of the rounds."""
        low, high = min(self.values), max(self.values)
        return {"median": tidy(self.median), "low": tidy(low), "high": tidy(high)}


@dataclass(frozen=True)
class Aim:
    """A figure with its lower or upper goal."""

    what: str
    figure: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        if self.at_least is not None:
            return self.figure >= self.at_least
        return self.at_most is not None and self.figure <= self.at_most

    def __str__(self) -> str:
        limit = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        return (
            f"{self.what}: {tidy(self.figure):g}, goal {limit}: {'met' if self.met else 'MISSED'}"
        )


@dataclass(frozen=True)
class Panel:
    """A chart with one bar per name, and the goal as a line."""

    title: str
    unit: str
    bars: Mapping[str, Spread | float]
    aim: float | None = None


@dataclass
class Finding:
    """Result of one measure.

    :param compared: The exact comparison, in one or two sentences.
    """

    compared: str
    figures: dict[str, Any]
    aims: list[Aim] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return everything except the charts."""
        aims = [
            {"what": aim.what, "figure": tidy(aim.figure), "at_least": aim.at_least,
             "at_most": aim.at_most, "met": aim.met}
            for aim in self.aims
        ]  # fmt: skip
        return {"compared": self.compared, "figures": to_plain(self.figures), "aims": aims}


def take_turns(
    contestants: Mapping[str, Callable[[], T]], rounds: int, *, warm: bool = True
) -> dict[str, list[T]]:
    """Run each program once per round, in alternating order.

    Disturbances of the machine then affect all programs equally.

    :param warm: Whether to start with a round that does not count.
    """
    found: dict[str, list[T]] = {name: [] for name in contestants}
    order = list(contestants)
    for number in range(-1 if warm else 0, rounds):
        for name in order if number % 2 == 0 else order[::-1]:
            outcome = contestants[name]()
            if number >= 0:
                found[name].append(outcome)
    return found


def spread(values: Sequence[float]) -> Spread:
    """Combine the values of several rounds."""
    return Spread(tuple(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the ratio of ours to theirs for each round."""
    return Spread(tuple(one / other for one, other in zip(ours, theirs, strict=True)))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile, or NaN without values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def to_plain(value: Any) -> Any:
    """Convert figures to JSON values, rounded to significant digits."""
    if isinstance(value, Spread):
        return value.to_json()
    if isinstance(value, Mapping):
        return {name: to_plain(one) for name, one in value.items()}
    return tidy(value) if isinstance(value, float) else value


def tidy(number: float) -> float:
    """Round to three digits, or to whole numbers from a hundred on."""
    return round(number) if abs(number) >= 100 else float(f"{number:.3g}")
