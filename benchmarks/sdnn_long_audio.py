"""Measures the published sigma-delta network on long audio, enhanced as a whole and in chunks.

The audio is one clip, repeated many times. The SI-SDR of each repetition is computed. A network whose levels don't
drift has the same SI-SDR each time.

    python benchmarks/sdnn_long_audio.py REFERENCE --svg docs/long_audio.svg

REFERENCE is a folder with `sdnn/intel_ndns_baseline.safetensors` and `vbdmd/{noisy,clean}/<clip>.wav`.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.scoring.si_sdr import si_sdr
from audiozen_core.trainer.components import Components
from audiozen_plugins.model import sigma_delta
from audiozen_plugins.model.sdnn import SDNN
from audiozen_plugins.trainer.enhancement import EnhancementTrainer

ACOUSTICS = Acoustics(sr=16000, n_fft=512, win_length=512, hop_length=128, window="rectangular")


def scores(
    network: SDNN, noisy: Tensor, clean: Tensor, repetitions: int, chunk_seconds: float | None = None
) -> list[float]:
    """Returns the SI-SDR of each repetition of the clip, in dB. Without `chunk_seconds`, the file is not cut."""
    # By default, the trainer would cut a file of more than a minute.
    chunk_seconds = chunk_seconds or repetitions * len(noisy) / ACOUSTICS.sr + 10
    trainer = EnhancementTrainer(
        Components({"": network.eval()}, acoustics=ACOUSTICS), metrics=[], chunk_seconds=chunk_seconds
    )
    with torch.no_grad():
        wave, _ = trainer.enhance_file({"noisy": noisy.repeat(repetitions)[None]})
    pieces = wave[0].split(len(noisy))
    return [si_sdr(piece, clean).item() for piece in pieces]


@contextmanager
def without_floor() -> Iterator[None]:
    """Replaces the delta units with units that do not round spikes down, within the block."""

    def delta_levels(
        activation: Tensor, threshold: Tensor, rectify: bool, previous: Tensor, residual: Tensor, level: Tensor
    ) -> tuple[Tensor, Tensor]:
        activation = activation.relu() if rectify else activation
        spikes = torch.empty_like(activation)
        for now, spike in zip(activation.unbind(1), spikes.unbind(1), strict=True):
            change = now - previous + residual
            residual = torch.where(change.abs() < threshold, change, torch.zeros_like(change))
            torch.sub(change, residual, out=spike)
            previous = now
        for before, after in itertools.pairwise((level, *spikes.unbind(1))):
            after.add_(before)
        return spikes, residual

    published = sigma_delta.delta_levels
    sigma_delta.delta_levels = delta_levels
    try:
        yield
    finally:
        sigma_delta.delta_levels = published


def draw(curves: dict[str, list[float]], noisy: float, seconds: float) -> str:
    """Draws the SI-SDR over time as an SVG, with one curve for each entry of `curves`."""
    width, height, left, bottom = 720, 360, 60, 50
    longest = max(map(len, curves.values())) * seconds / 60
    low, high = -10.0, 14.0

    def x(minutes: float) -> float:
        return left + minutes / longest * (width - left - 20)

    def y(decibels: float) -> float:
        return 20 + (high - decibels) / (high - low) * (height - 20 - bottom)

    def text(at: tuple[float, float], words: str, more: str = 'text-anchor="middle"') -> str:
        return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" {more}>{words}</text>'

    foot, middle, right = height - bottom, height / 2, width - 20
    size = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>']
    parts.append(f'<rect width="{width}" height="{height}" fill="white"/>')
    for decibels in range(int(low), int(high) + 1, 2):
        parts.append(f'<path d="M{left} {y(decibels):.1f}H{right}" stroke="#ddd"/>')
        parts.append(text((left - 8, y(decibels) + 4), str(decibels), 'text-anchor="end"'))
    parts += [text((x(minutes), foot + 18), str(minutes)) for minutes in range(0, int(longest) + 1, 2)]
    parts.append(text(((left + width) / 2, height - 12), "minutes since the start"))
    parts.append(text((16, middle), "SI-SDR in dB", f'transform="rotate(-90 16 {middle})" text-anchor="middle"'))
    parts.append(f'<path d="M{left} {y(noisy):.1f}H{right}" stroke="#888" stroke-dasharray="4 4"/>')
    parts.append(text((right - 4, y(noisy) - 5), "noisy", 'text-anchor="end" fill="#666"'))
    for index, (name, values) in enumerate(curves.items()):
        colour = ("#c0392b", "#1f6fb2", "#2e8b57")[index]
        points = " ".join(f"{x((at + 0.5) * seconds / 60):.1f},{y(value):.1f}" for at, value in enumerate(values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(text((left + 12, foot - 12 - 16 * index), name, f'fill="{colour}"'))
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Prints the scores, and draws them if `--svg` is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--clip", default="p232_014")
    parser.add_argument("--repetitions", type=int, default=128)
    parser.add_argument("--chunk-seconds", type=float, default=10.0)
    parser.add_argument("--svg", type=Path)
    arguments = parser.parse_args()

    network = SDNN()
    network.load_state_dict(load_file(arguments.reference / "sdnn" / "intel_ndns_baseline.safetensors"))
    clips = [arguments.reference / "vbdmd" / kind / f"{arguments.clip}.wav" for kind in ("noisy", "clean")]
    noisy, clean = (torch.from_numpy(soundfile.read(clip, dtype="float32")[0]) for clip in clips)
    length = len(noisy) // ACOUSTICS.hop_length * ACOUSTICS.hop_length
    noisy, clean = noisy[:length], clean[:length]
    curves = {
        "whole file": scores(network, noisy, clean, arguments.repetitions),
        f"chunks of {arguments.chunk_seconds:g} s": scores(
            network, noisy, clean, arguments.repetitions, arguments.chunk_seconds
        ),
    }
    with without_floor():
        curves["whole file, spikes not rounded down"] = scores(network, noisy, clean, arguments.repetitions)
    baseline, seconds = si_sdr(noisy, clean).item(), length / ACOUSTICS.sr
    print(f"{arguments.clip}, {seconds:.2f} s, noisy {baseline:.2f} dB")
    print("repetition", *curves, sep=" | ")
    shown = [number for number in (1, 2, 4, 8, 16, 32, 64, 128, 256) if number <= arguments.repetitions]
    for number in shown:
        print(number, *(f"{values[number - 1]:.2f}" for values in curves.values()), sep=" | ")
    if arguments.svg:
        arguments.svg.write_text(draw(curves, baseline, seconds), encoding="utf-8")


if __name__ == "__main__":
    main()
