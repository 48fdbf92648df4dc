"""Validation samples of a run as clips: what the network made of a file in several epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from audiozen_core.errors import AudioZenError
from audiozen_core.pages.clips import Clip, make_clip
from audiozen_core.report.recordings import GIVEN_FIRST
from audiozen_core.report.subjects import RunOf
from audiozen_core.results.samples import FOLDER, Sample, read_samples


def sample_clips(run: RunOf, *, files: int, seconds: float) -> list[Clip] | str:
    """Makes a clip of each of the first validation files of a run.

    Args:
        run: the run.
        files: the greatest number of files.
        seconds: the greatest length of a clip.

    Returns:
        The clips, which have the output of the first, the best and the last validation; or in words why there are none.
    """
    try:
        samples = read_samples(run.folder)
    except AudioZenError as error:
        return error.message
    of_file: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        of_file.setdefault((sample.dataset, sample.id), []).append(sample)
    clips = []
    for found in list(of_file.values())[:files]:
        try:
            clips.append(_clip(run, found, seconds))
        except (AudioZenError, ValueError) as error:
            return str(error)
    return clips or "it has none"


def _clip(run: RunOf, samples: Sequence[Sample], seconds: float) -> Clip:
    chosen = _spread(samples)
    newest = chosen[-1]
    folder = run.folder / FOLDER
    given = {name: signal for name, signal in newest.signals.items() if signal.given}
    before = [name for name in given if name.startswith(GIVEN_FIRST)]
    signals = {name: _wave(folder / given[name].path, newest.sr, given[name].gain_db) for name in before}
    for sample in chosen:
        outputs = {name: signal for name, signal in sample.signals.items() if not signal.given}
        for name, signal in outputs.items():
            track = f"epoch {sample.epoch}{f', {name}' if len(outputs) > 1 else ''}"
            if track in signals:  # of another validation of the same epoch
                track = f"step {sample.step}{f', {name}' if len(outputs) > 1 else ''}"
            signals[track] = _wave(folder / signal.path, sample.sr, signal.gain_db)
    signals |= {
        name: _wave(folder / signal.path, newest.sr, signal.gain_db)
        for name, signal in given.items()
        if name not in before
    }
    if not signals:
        raise ValueError(f"the samples of {newest.title} have no audio")
    best = [sample.epoch for sample in samples if sample.best]
    notes = [f"{run.label}: the best epoch is {best[-1]}." if best else f"{run.label}."]
    return make_clip(newest.title, signals, newest.sr, seconds=seconds, notes=notes)


def _spread(samples: Sequence[Sample]) -> list[Sample]:
    """Returns the first validation, the best or else the middle one, and the last."""
    best = next((place for place, sample in enumerate(samples) if sample.best), 0)
    last = len(samples) - 1
    middle = best if 0 < best < last else last // 2
    return [samples[place] for place in sorted({0, middle, last})]


def _wave(path: Path, sr: int, gain_db: float) -> Any:
    from audiozen_core.audio.files import read_audio

    # A signal louder than full scale was written at a lower level.
    return read_audio(path, sr=sr).numpy() / 10 ** (gain_db / 20)


def all_clips(runs: Sequence[RunOf], seconds: float) -> Iterator[tuple[RunOf, list[Clip] | str]]:
    """Yields the clips of each run: two of one run, and one of each of several."""
    for run in runs:
        yield run, sample_clips(run, files=2 if len(runs) == 1 else 1, seconds=seconds)
