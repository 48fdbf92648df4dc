"""The index of a run's samples: the network's outputs for a few validation files, as audio and pictures.

This module does not import torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from audiozen_core.errors import RunError
from audiozen_core.results.files import write_json

FOLDER = "samples"
"""The name of the samples folder in the run folder."""

_INDEX, _VERSION = "samples.json", 1


@dataclass(frozen=True, slots=True)
class SampleSignal:
    """One signal of a sample, such as the enhanced signal.

    Attributes:
        path: the path of the audio file, relative to the samples folder.
        from_dataset: whether the signal comes from the data set and is therefore the same in every validation.
        gain_db: the gain that was applied to the audio, in decibels: 0, or negative if the signal exceeded full scale.
    """

    path: str
    from_dataset: bool = False
    gain_db: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One file of one validation.

    Attributes:
        epoch: the epoch of the validation, counted from 1.
        step: the optimiser step of the validation.
        validation: the number of the validation, counted from 1.
        best: whether this is the best validation so far. At most one validation of a run is marked as the best.
        dataset: the name of the validation set: its `name` in the TOML file, or else its index.
        id: the ID of the file.
        sr: the sample rate in Hz.
        begin: where the audio starts in the file, in seconds. Long files are cut.
        seconds: the duration of the audio in seconds.
        sheet: the path of the picture, relative to the samples folder. The picture has the spectrograms of all signals
            on one colour scale.
        signals: the signals by name, in the order of the trainer. A signal that contains NaN or infinity has no audio
            and is only in the picture.
    """

    epoch: int
    step: int
    validation: int
    best: bool
    dataset: str
    id: str
    sr: int
    begin: float
    seconds: float
    sheet: str
    signals: Mapping[str, SampleSignal] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name of the data set and the ID, such as `dns/0001`; only the ID if the data set has no name."""
        return self.id if self.dataset.isdecimal() else f"{self.dataset}/{self.id}"

    @property
    def paths(self) -> list[str]:
        """The paths of the picture and of the audio files, relative to the samples folder."""
        return [self.sheet, *(signal.path for signal in self.signals.values())]


def read_samples(run: Path) -> list[Sample]:
    """Returns the samples of a run, oldest first. Files that have since been deleted are left out.

    Args:
        run: the run folder.

    Raises:
        RunError: the index of the samples can't be read, or a newer version of AudioZEN wrote it.
    """
    path = run / FOLDER / _INDEX
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] > _VERSION:
            raise RunError(f"`{path}` was written by a newer version of AudioZEN", remedy="update AudioZEN")
        samples = [_parsed(entry) for entry in content["samples"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"`{path}` can't be read: {error}",
            remedy="delete this file; the run creates a new index with its next samples",
        ) from error
    return [existing for sample in samples if (existing := _existing(sample, run / FOLDER))]


def write_samples(run: Path, samples: Sequence[Sample]) -> None:
    """Writes the index of the samples of a run.

    Raises:
        OSError: the index can't be written. The old index stays unchanged.
    """
    write_json(run / FOLDER / _INDEX, {"version": _VERSION, "samples": [asdict(sample) for sample in samples]})


def _parsed(entry: Mapping[str, Any]) -> Sample:
    signals = {name: SampleSignal(**signal) for name, signal in entry["signals"].items()}
    sample = Sample(**{**entry, "signals": signals})
    for path in sample.paths:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError(f"the path `{path}` leads outside the samples folder")
    return sample


def _existing(sample: Sample, folder: Path) -> Sample | None:
    """Returns the sample without signals whose file was deleted; None if its picture was deleted."""
    if not (folder / sample.sheet).is_file():
        return None
    signals = {name: signal for name, signal in sample.signals.items() if (folder / signal.path).is_file()}
    return replace(sample, signals=signals)
