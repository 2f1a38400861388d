"""Charts of the results: one bar per program, the goal as a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from .figures import OURS, Panel, Spread, tidy

_OURS_COLOUR, _OTHER_COLOUR, _AIM_COLOUR = "#2563eb", "#9ca3af", "#dc2626"


def draw(title: str, panels: Sequence[Panel], path: Path) -> None:
    """Write the panels below each other into a PNG file."""
    heights = [0.9 + 0.36 * len(panel.bars) for panel in panels]
    figure, axes = plt.subplots(
        len(panels), figsize=(9, 0.6 + sum(heights)), height_ratios=heights, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        _draw_panel(axis, panel)
    figure.suptitle(title, fontsize=13, fontweight="bold")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_panel(axis: plt.Axes, panel: Panel) -> None:
    names = list(panel.bars)
    spreads = [
        one if isinstance(one, Spread) else Spread((float(one),)) for one in panel.bars.values()
    ]
    medians = [one.median for one in spreads]
    # From the worst to the best round.
    errors = [
        [one.median - min(one.values) for one in spreads],
        [max(one.values) - one.median for one in spreads],
    ]
    alone = not any(OURS in name for name in names)
    colours = [_OURS_COLOUR if alone or OURS in name else _OTHER_COLOUR for name in names]
    bars = axis.barh(names, medians, xerr=errors, color=colours, height=0.6, ecolor="#374151")
    axis.bar_label(bars, labels=[f"{tidy(one):,g}" for one in medians], padding=6, fontsize=9)
    axis.set_title(f"{panel.title} ({panel.unit})", fontsize=10, loc="left")
    axis.invert_yaxis()
    axis.margins(x=0.14)
    axis.set_xlim(left=0)
    axis.spines[["top", "right"]].set_visible(False)
    if panel.aim is not None:
        label = f"aim {tidy(panel.aim):,g}"
        axis.axvline(panel.aim, color=_AIM_COLOUR, linestyle="--", linewidth=1.4, label=label)
        axis.legend(loc="lower right", bbox_to_anchor=(1, 0.98), fontsize=8, frameon=False)
