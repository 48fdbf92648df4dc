"""Draws spectrograms. Signals in one picture share a colour scale, so a darker spectrogram means a quieter signal."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audiozen_core.audio.spectrogram import decibel_spectrogram

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

RANGE_DB = 80.0
"""The range of the colour scale in decibels. Levels further below the loudest level get the darkest colour."""

# Colours from dark to bright. Their lightness rises evenly, so equal steps in decibels look equal, even in greyscale.
_ANCHORS = ((8, 6, 22), (52, 18, 92), (122, 30, 108), (189, 48, 84), (235, 90, 50), (251, 155, 40), (252, 246, 190))
_NOT_FINITE = (0, 214, 170)  # turquoise, which is not in the colour scale
_SHADES = 255

_PANEL, _LEFT, _RIGHT, _TOP, _BOTTOM, _TITLE = (1000, 200), 64, 76, 4, 40, 32
_INK, _PAPER = (40, 40, 46), (255, 255, 255)
_STEPS = (1, 2, 5)


def top_level(levels: Sequence[NDArray[np.float32]]) -> float:
    """Returns the loudest finite level of several spectrograms in decibels; 0 if none is finite.

    Args:
        levels: what `decibel_spectrogram` returned for each signal.
    """
    return max((float(np.nanmax(level)) for level in levels if np.isfinite(level).any()), default=0.0)


def draw_spectrogram(levels: NDArray[np.float32], *, top: float, range_db: float = RANGE_DB) -> Image.Image:
    """Draws a spectrogram, with one pixel for each level, and the lowest frequency at the bottom.

    Args:
        levels: what `decibel_spectrogram` returned.
        top: the level of the brightest colour, in decibels. Use `top_level` of all signals that are compared.
        range_db: the difference between the levels of the brightest and the darkest colour, in decibels.

    Returns:
        A picture with a palette. Levels that are not finite are turquoise.
    """
    shades = np.clip((levels - (top - range_db)) / range_db, 0, 1) * (_SHADES - 1)
    indices = np.where(np.isfinite(levels), np.round(shades), _SHADES).astype(np.uint8)
    from PIL import Image

    picture = Image.fromarray(indices[::-1])
    picture.putpalette(_palette())
    return picture


def draw_sheet(signals: Mapping[str, Any], sr: int) -> Image.Image:
    """Draws the spectrograms of several signals below each other, with axes and a shared colour scale.

    Args:
        signals: the waveforms [time] by name, between -1 and 1, as arrays or tensors on the CPU. At least one.
        sr: the sample rate of the waveforms in Hz.

    Raises:
        ValueError: a waveform has no samples, or is not one-dimensional.
    """
    from PIL import Image, ImageDraw, ImageFont

    width, height = _PANEL
    levels = {name: decibel_spectrogram(wave, sr, columns=width) for name, wave in signals.items()}
    top = top_level(list(levels.values()))
    longest = max(np.asarray(wave).size for wave in signals.values())
    whole = _TOP + len(signals) * (_TITLE + height) + _BOTTOM
    sheet = Image.new("RGB", (_LEFT + width + _RIGHT, whole), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for index, (name, wave) in enumerate(signals.items()):
        above = _TOP + index * (_TITLE + height) + _TITLE
        draw.text((_LEFT, above - 6), _title(name, wave), _INK, font, anchor="lb")
        part = max(1, round(width * np.asarray(wave).size / longest))
        picture = draw_spectrogram(levels[name], top=top).resize((part, height), Image.Resampling.NEAREST)
        sheet.paste(picture.convert("RGB"), (_LEFT, above))
        frequencies = ticks(sr / 2000, 4)
        for kilohertz in frequencies:
            y = above + height - round(kilohertz / (sr / 2000) * height)
            draw.line((_LEFT - 5, y, _LEFT - 1, y), _INK)
            label = f"{kilohertz:g}{' kHz' * (kilohertz == frequencies[-1])}"
            draw.text((_LEFT - 8, y), label, _INK, font, anchor="rm")
        _draw_scale(draw, font, _LEFT + width + 14, above, height, top)
    below = whole - _BOTTOM
    for seconds in ticks(longest / sr, 10):
        x = _LEFT + round(seconds / (longest / sr) * width)
        draw.line((x, below + 1, x, below + 5), _INK)
        draw.text((x, below + 8), f"{seconds:g}", _INK, font, anchor="mt")
    draw.text((_LEFT + width + 14, below + 8), "seconds", _INK, font, anchor="lt")
    return sheet


def png(picture: Image.Image, *, fast: bool = False) -> bytes:
    """Encodes a picture as PNG, and returns the bytes of the file.

    Args:
        picture: what `draw_spectrogram` or `draw_sheet` returned.
        fast: whether to write a larger file in less time, for a folder of many pictures.
    """
    file = io.BytesIO()
    picture.save(file, "PNG", **({"compress_level": 1} if fast else {"optimize": True}))
    return file.getvalue()


def ticks(end: float, count: int) -> list[float]:
    """Returns round numbers from 0 to the end of an axis, at most about `count` of them after the 0."""
    rough = end / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * digit for digit in _STEPS if power * digit >= rough * 0.999), power * 10)
    return [index * step for index in range(math.floor(end / step * 1.000001) + 1)]


def _palette() -> list[int]:
    places = np.linspace(0, len(_ANCHORS) - 1, _SHADES)
    channels = [np.interp(places, range(len(_ANCHORS)), channel) for channel in zip(*_ANCHORS, strict=True)]
    colours = np.stack(channels, axis=1).round().astype(int)
    return [*colours.flatten().tolist(), *_NOT_FINITE]


def _title(name: str, wave: Any) -> str:
    samples = np.asarray(wave, np.float64)
    missing = int(samples.size - np.isfinite(samples).sum())
    if missing:
        return f"{name}   {missing} of {samples.size} samples are not finite"
    peak, rms = float(np.abs(samples).max()), math.sqrt(float(np.mean(samples**2)))
    return f"{name}   peak {_decibels(peak)}, mean {_decibels(rms)}"


def _decibels(amplitude: float) -> str:
    return f"{20 * math.log10(amplitude):.1f} dBFS" if amplitude else "silence"


def _draw_scale(draw: ImageDraw.ImageDraw, font: Any, x: int, above: int, height: int, top: float) -> None:
    colours = np.asarray(_palette()).reshape(-1, 3)
    for y in range(height):
        shade = round((1 - y / (height - 1)) * (_SHADES - 1))
        draw.line((x, above + y, x + 10, above + y), tuple(colours[shade]))
    for part in (0, 0.5, 1):
        label = f"{top - part * RANGE_DB:.0f}{' dB' * (not part)}"
        draw.text((x + 15, above + part * (height - 1)), label, _INK, font, anchor="lm")
