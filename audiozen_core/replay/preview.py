"""`audiozen run EXP.toml --preview 20`: writes the first samples of the training data, as a run would get them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.data.tensors import map_tensors
from audiozen_core.errors import RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.replay.batches import first_batches
from audiozen_core.replay.output import check_replaceable, whole_folder, write_batch_samples, write_numbers
from audiozen_core.replay.samples import BatchSample, Waveform, samples_of
from audiozen_core.replay.training import batches_before_a_run

NUMBERS = "preview.json"


@dataclass(frozen=True, slots=True)
class WaveStatistics:
    """Statistics of all waveforms with the same name, such as `noisy`.

    Attributes:
        count: the number of waveforms.
        seconds: the shortest and the longest duration, in seconds.
        level_db: the lowest, mean and highest level of waveforms that are not silent, in dB; None if all are silent.
        peak: the largest magnitude of a sample; 1 is full scale.
        loud: the number of waveforms that exceed full scale.
        silent: the number of silent waveforms.
        not_finite: the number of waveforms with samples that are NaN or infinite.
    """

    count: int
    seconds: tuple[float, float]
    level_db: tuple[float, float, float] | None
    peak: float
    loud: int
    silent: int
    not_finite: int

    @classmethod
    def from_waves(cls, waves: Sequence[Waveform]) -> WaveStatistics:
        """Computes the statistics of one or more waveforms."""
        levels = [level for wave in waves if math.isfinite(level := wave.level)]
        peaks = [wave.peak for wave in waves]
        seconds = [wave.seconds for wave in waves]
        return cls(
            len(waves),
            (min(seconds), max(seconds)),
            (min(levels), math.fsum(levels) / len(levels), max(levels)) if levels else None,
            max(peaks),
            sum(peak > 1 for peak in peaks),
            sum(not peak for peak in peaks),
            sum(wave.not_finite > 0 for wave in waves),
        )

    def described(self) -> dict[str, Any]:
        """Returns the statistics as data for `json.dumps`."""
        low, mean, high = self.level_db or (None, None, None)
        return {
            "count": self.count,
            "seconds": {"min": self.seconds[0], "max": self.seconds[1]},
            "level_db": {"min": low, "mean": mean, "max": high},
            "peak": self.peak,
            "louder_than_full_scale": self.loud,
            "silent": self.silent,
            "not_finite": self.not_finite,
        }


@dataclass(frozen=True, slots=True)
class Preview:
    """The first samples of the training data.

    Attributes:
        folder: the folder that contains the files.
        samples: the samples.
        statistics: statistics of the waveforms, by name.
    """

    folder: Path
    samples: Sequence[BatchSample]
    statistics: Mapping[str, WaveStatistics]


def preview(experiment: Experiment, count: int, output: Path | None = None) -> Preview:
    """Makes the first samples of epoch 1, and writes their audio, spectrograms and numbers into a folder.

    Args:
        experiment: the experiment. It is not run, and nothing is written into its run folder.
        count: the number of samples. The preview has fewer samples if the epoch has fewer.
        output: the folder to write; by default the run folder with the suffix `_preview`, such as
            `exp/baseline_preview`.

    Raises:
        RunError: the folder contains other files, or can't be written.
        AudioZenError: the training data can't be built or read.
    """
    folder = output or experiment.folder.with_name(f"{experiment.folder.name}_preview")
    check_replaceable(folder, NUMBERS)
    samples: list[BatchSample] = []
    with batches_before_a_run(experiment) as built:
        for batch in first_batches(built.trainer, built.loader):
            samples += samples_of(map_tensors(batch, lambda tensor: tensor.detach().cpu()), built.trainer.sr)
            if len(samples) >= count:
                break
    if not samples:
        raise RunError(
            "the batches of the training data can't be split into samples",
            remedy="let the data set return batches as dicts of tensors whose first axis is the sample",
        )
    samples = samples[:count]
    names = dict.fromkeys(name for sample in samples for name in sample.waves)
    statistics = {
        name: WaveStatistics.from_waves([sample.waves[name] for sample in samples if name in sample.waves])
        for name in names
    }
    with whole_folder(folder, NUMBERS) as temporary:
        described = write_batch_samples(temporary, samples)
        waves = {name: numbers.described() for name, numbers in statistics.items()}
        write_numbers(temporary, NUMBERS, {"experiment": experiment.config.id, "waves": waves, "samples": described})
    return Preview(folder, samples, statistics)
