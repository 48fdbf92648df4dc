"""Makes clips of the validation samples of a run: the outputs of the network for a file after several epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from audiozen_core.errors import AudioZenError
from audiozen_core.pages.clips import Clip, make_clip
from audiozen_core.report.recordings import GIVEN_FIRST
from audiozen_core.report.subjects import ReportRun
from audiozen_core.results.samples import FOLDER, Sample, read_samples


def sample_clips(run: ReportRun, *, files: int, seconds: float) -> list[Clip] | str:
    """Makes clips of the first validation files of a run, one for each file.

    Args:
        run: the run.
        files: the maximum number of files.
        seconds: the maximum duration of a clip in seconds.

    Returns:
        The clips, each with the outputs of the first, the best and the last validation; or a text with the reason why
        there are no clips.
    """
    try:
        samples = read_samples(run.folder)
    except AudioZenError as error:
        return error.message
    samples_of_file: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        samples_of_file.setdefault((sample.dataset, sample.id), []).append(sample)
    clips = []
    for file_samples in list(samples_of_file.values())[:files]:
        try:
            clips.append(_clip(run, file_samples, seconds))
        except (AudioZenError, ValueError) as error:
            return str(error)
    return clips or "the run has none"


def _clip(run: ReportRun, samples: Sequence[Sample], seconds: float) -> Clip:
    chosen = _spread(samples)
    newest = chosen[-1]
    folder = run.folder / FOLDER
    given = {name: signal for name, signal in newest.signals.items() if signal.from_dataset}
    before = [name for name in given if name.startswith(GIVEN_FIRST)]
    signals = {name: _wave(folder / given[name].path, newest.sr, given[name].gain_db) for name in before}
    for sample in chosen:
        outputs = {name: signal for name, signal in sample.signals.items() if not signal.from_dataset}
        for name, signal in outputs.items():
            track = f"epoch {sample.epoch}{f', {name}' if len(outputs) > 1 else ''}"
            if track in signals:  # an epoch can have several validations
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
    """Returns the samples of the first, the best (or else the middle) and the last validation."""
    best = next((index for index, sample in enumerate(samples) if sample.best), 0)
    last = len(samples) - 1
    middle = best if 0 < best < last else last // 2
    return [samples[index] for index in sorted({0, middle, last})]


def _wave(path: Path, sr: int, gain_db: float) -> Any:
    from audiozen_core.audio.files import read_audio

    # Signals that exceeded full scale were attenuated before they were written. This restores their level.
    return read_audio(path, sr=sr).numpy() / 10 ** (gain_db / 20)


def all_clips(runs: Sequence[ReportRun], seconds: float) -> Iterator[tuple[ReportRun, list[Clip] | str]]:
    """Yields the clips of each run: two clips if there is a single run, otherwise one for each run."""
    for run in runs:
        yield run, sample_clips(run, files=2 if len(runs) == 1 else 1, seconds=seconds)
