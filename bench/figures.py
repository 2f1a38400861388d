"""What a measure finds: figures, the aims they are held against, and what is drawn of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

#: How the contestants are called everywhere.
OURS, FLASK, WSGI = "this server", "bare Flask", "bare WSGI"


@dataclass(frozen=True)
class Sizes:
    """How much is measured. The whole run takes about ten minutes with these.

    :param rounds: How often the contestants take turns; the median counts.
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


#: Only to see that everything works: these figures mean nothing.
SMALL = Sizes(
    rounds=1, seconds=0.5, sessions=20_000, open_streams=50, fast_streams=20, many_streams=100,
    file_bytes=4 * 1024 * 1024, crowd=20, pushed=100,
)  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """One figure as several rounds gave it."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure that counts."""
        return statistics.median(self.values)

    def to_json(self) -> dict[str, float]:
        """Return the median, and how far the rounds were apart."""
        low, high = min(self.values), max(self.values)
        return {"median": tidy(self.median), "low": tidy(low), "high": tidy(high)}


@dataclass(frozen=True)
class Aim:
    """A figure and what it should be at least, or at most."""

    what: str
    figure: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        """Whether it is reached."""
        if self.at_least is not None:
            return self.figure >= self.at_least
        return self.at_most is not None and self.figure <= self.at_most

    def __str__(self) -> str:
        limit = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        return f"{self.what}: {tidy(self.figure):g}, aim {limit}: {'met' if self.met else 'MISSED'}"


@dataclass(frozen=True)
class Panel:
    """One picture: a bar for each name, and the aim as a line across them."""

    title: str
    unit: str
    bars: Mapping[str, Spread | float]
    aim: float | None = None


@dataclass
class Finding:
    """What one measure gives.

    :param compared: What exactly stands beside what, in a sentence or two.
    """

    compared: str
    figures: dict[str, Any]
    aims: list[Aim] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return all of it but the pictures."""
        aims = [
            {"what": aim.what, "figure": tidy(aim.figure), "at_least": aim.at_least,
             "at_most": aim.at_most, "met": aim.met}
            for aim in self.aims
        ]  # fmt: skip
        return {"compared": self.compared, "figures": to_plain(self.figures), "aims": aims}


def take_turns(
    contestants: Mapping[str, Callable[[], T]], rounds: int, *, warm: bool = True
) -> dict[str, list[T]]:
    """Let each contestant run once a round, in an order that is turned round each time.

    What the machine does besides then hits all of them alike.

    :param warm: First a round that does not count.
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
    """Return values of several rounds as one figure."""
    return Spread(tuple(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return round by round how much of theirs ours is."""
    return Spread(tuple(one / other for one, other in zip(ours, theirs, strict=True)))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile; not a number where there are no values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def to_plain(value: Any) -> Any:
    """Return figures as JSON can have them, rounded to what they are worth."""
    if isinstance(value, Spread):
        return value.to_json()
    if isinstance(value, Mapping):
        return {name: to_plain(one) for name, one in value.items()}
    return tidy(value) if isinstance(value, float) else value


def tidy(number: float) -> float:
    """Round to three digits; whole numbers from a hundred on."""
    return round(number) if abs(number) >= 100 else float(f"{number:.3g}")
