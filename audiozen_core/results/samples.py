"""The samples of a run: what the network made of a few validation files, as audio and pictures. Without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from audiozen_core.errors import RunError
from audiozen_core.results.files import write_json

FOLDER = "samples"
"""The folder of the samples in the folder of a run."""

_INDEX, _VERSION = "samples.json", 1


@dataclass(frozen=True, slots=True)
class SampleSignal:
    """One signal of a sample, such as the enhanced one.

    Attributes:
        path: the audio file, within the folder of samples.
        given: whether the signal comes from the data set, so that it is the same in every validation.
        gain_db: what the samples were amplified by, in decibels: 0, or less if they were louder than full scale.
    """

    path: str
    given: bool = False
    gain_db: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One file of one validation.

    Attributes:
        epoch: the epoch of the validation, from 1.
        step: its optimiser step.
        validation: its number among the validations, from 1.
        best: whether it was the best validation when it was made. At most one validation of a run is marked so.
        dataset: the name of the validation set: its `name` in the TOML file, or else its index.
        id: the ID of the file.
        sr: the sample rate in Hz.
        begin: where the audio begins in the file, in seconds. A long file is cut.
        seconds: the length of the audio.
        sheet: the picture with the spectrograms of all signals on one scale, within the folder of samples.
        signals: the signals by name, in the order in which the trainer has shown them. One with NaN or infinity has
            no audio, and is in the picture only.
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
        """The ID, after the name of the data set if that is not only an index."""
        return self.id if self.dataset.isdecimal() else f"{self.dataset}/{self.id}"

    @property
    def paths(self) -> list[str]:
        """The picture and the audio files."""
        return [self.sheet, *(signal.path for signal in self.signals.values())]


def read_samples(run: Path) -> list[Sample]:
    """Returns the samples of a run, oldest first. Files that have been deleted since are left out.

    Args:
        run: the folder of the run.

    Raises:
        RunError: the index of the samples can't be read, or is of a later version.
    """
    path = run / FOLDER / _INDEX
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] > _VERSION:
            raise RunError(f"`{path}` is of a later version of AudioZEN", remedy="update AudioZEN")
        samples = [_parsed(entry) for entry in content["samples"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"`{path}` can't be read: {error}",
            remedy="delete this file; the run then starts a new one with its next samples",
        ) from error
    return [found for sample in samples if (found := _existing(sample, run / FOLDER))]


def write_samples(run: Path, samples: Sequence[Sample]) -> None:
    """Writes the index of the samples of a run.

    Raises:
        OSError: the index can't be written; the old one is unchanged.
    """
    write_json(run / FOLDER / _INDEX, {"version": _VERSION, "samples": [asdict(sample) for sample in samples]})


def _parsed(entry: Mapping[str, Any]) -> Sample:
    signals = {name: SampleSignal(**signal) for name, signal in entry["signals"].items()}
    sample = Sample(**{**entry, "signals": signals})
    for path in sample.paths:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError(f"the path `{path}` leads out of the folder")
    return sample


def _existing(sample: Sample, folder: Path) -> Sample | None:
    if not (folder / sample.sheet).is_file():
        return None
    there = {name: signal for name, signal in sample.signals.items() if (folder / signal.path).is_file()}
    return replace(sample, signals=there)
