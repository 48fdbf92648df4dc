"""Draws the curve of a range test with matplotlib, and writes its points to a CSV file."""

from __future__ import annotations

import csv
import importlib.util
import io
from pathlib import Path

from audiozen_core.errors import MissingExtraError, RunError
from audiozen_core.storage.atomic import write_whole
from audiozen_core.tuning.lr_curve import RangeTestCurve, Suggestion, as_toml

FORMATS = (".svg", ".png", ".pdf")
_BLUE, _GREY, _GREEN = "#1f6fb2", "#9aa5b1", "#2e8b57"


def can_draw() -> bool:
    """Returns whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def check_picture(path: Path) -> None:
    """Checks that the picture can be drawn. Call it before the range test, which can take minutes.

    Raises:
        RunError: the extension of the path is not one of `FORMATS`, or the path is a folder.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise RunError(
            f"{path} does not end in {', '.join(FORMATS)}", remedy=f"use a name such as {path.stem or 'lr'}.svg"
        )
    if path.is_dir():
        raise RunError(f"{path} is a folder", remedy="give the path of a file")
    if not can_draw():
        raise MissingExtraError("matplotlib", extra="plot", needed_by="the picture of a range test")


def write_points(curve: RangeTestCurve, path: Path) -> None:
    """Writes a CSV file with the columns `learning_rate`, `loss` and `smoothed_loss`. The write is atomic."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("learning_rate", "loss", "smoothed_loss"))
    table.writerows(zip(curve.rates, curve.losses, curve.smoothed, strict=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.getvalue())


def draw_curve(curve: RangeTestCurve, suggestion: Suggestion, path: Path, title: str) -> None:
    """Plots the loss against the learning rate, marks the suggested rate, and writes the picture atomically."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Matplotlib derives the IDs in an SVG file from a salt. With a fixed salt, the same curve always gives the same
    # file.
    with mpl.rc_context({"svg.hashsalt": "audiozen", "font.size": 10, "axes.spines.top": False}):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.add_subplot()
        axes.spines["right"].set_visible(False)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("training loss after a step")
        axes.grid(axis="y", color="#e5e8ec", linewidth=0.8)
        axes.set_axisbelow(True)
        count = len(curve.losses)
        rates, smoothed = curve.rates[:count], curve.smoothed
        axes.plot(rates, curve.losses, ".", color=_GREY, markersize=4, label="loss")
        axes.plot(rates, smoothed, color=_BLUE, linewidth=2, label="smoothed loss")
        axes.set_xlim(curve.rates[0] / 1.3, curve.rates[-1] * 1.3)
        axes.set_ylim(*_limits(curve))
        if suggestion.lowest is not None:
            axes.plot(rates[suggestion.lowest], smoothed[suggestion.lowest], "o", color=_BLUE, label="lowest loss")
        if suggestion.rate is not None:
            label = f"suggestion: {as_toml(suggestion.rate)}"
            axes.axvline(suggestion.rate, color=_GREEN, linewidth=1.5, linestyle="--", label=label)
        axes.legend(frameon=False, loc="lower left")  # the curve starts high, so this corner is empty
        drawn = io.BytesIO()
        kind = path.suffix.lower().removeprefix(".")
        dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
        figure.savefig(drawn, format=kind, dpi=150, metadata=dates.get(kind))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, drawn.getvalue())


def _limits(curve: RangeTestCurve) -> tuple[float, float]:
    """Returns the range of the loss axis. Losses above the ceiling are cut off, to keep lower losses visible."""
    shown = [loss for loss in (*curve.losses, *curve.smoothed) if loss <= curve.ceiling] or [curve.start]
    low, high = min(shown), max((*shown, *curve.smoothed))
    margin = 0.05 * (high - low) or 0.05 * max(abs(high), 1e-12)
    return low - margin, high + margin
