"""Writes and removes the audio samples in the folder of a run."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import torch
from torch import Tensor

from audiozen_core.audio.spectrogram_picture import draw_sheet
from audiozen_core.audio.writing import write_pieces
from audiozen_core.checkpoint.names import checkpoint_names
from audiozen_core.diagnostics.printable import fit_for_file
from audiozen_core.hooks.progress import Progress
from audiozen_core.results.samples import FOLDER, Sample, SampleSignal, write_samples
from audiozen_core.storage.atomic import make_folder, remove, write_whole

if TYPE_CHECKING:
    from PIL import Image

_INPUTS, _SHEET = "inputs", "spectrograms.png"
_OF_VALIDATION = re.compile(r"epoch_\d{4,}(_step_\d+)?")


@dataclass(frozen=True, slots=True)
class TakenSample:
    """The signals of one file of a validation.

    Attributes:
        dataset: the name of the validation set.
        id: the ID of the file.
        begin: the position in the file where the signals begin, in seconds.
        waves: the signals [time] by name, float32 on the CPU.
        dataset_signals: the names of the signals that come from the data set.
    """

    dataset: str
    id: str
    begin: float
    waves: Mapping[str, Tensor]
    dataset_signals: frozenset[str]


class WrittenSamples:
    """The samples in the folder of a run.

    Signals of the data set are in `inputs/<data set>/<ID>/`. All other signals are in a folder for each validation,
    such as `epoch_0003/<data set>/<ID>/`.

    Args:
        run: the folder of the run.
        samples: the samples that the run already has.
    """

    def __init__(self, run: Path, samples: Sequence[Sample]) -> None:
        self._run = run
        self._folder = run / FOLDER
        self._samples = list(samples)

    def write(self, taken: Sequence[TakenSample], progress: Progress, sr: int, stride: int) -> list[Sample]:
        """Writes the samples of a validation, and removes older samples according to `stride`.

        Args:
            taken: the samples.
            progress: the progress of the run.
            sr: the sample rate of the samples in Hz.
            stride: samples of earlier validations are kept only if the number of the validation is divisible by this,
                or if it is the best validation.

        Returns:
            The written samples.

        Raises:
            OSError: a file can't be written.
            DataError: an audio file can't be written.
        """
        epoch = progress.current_epoch
        done, within = checkpoint_names(epoch if not progress.batch else epoch - 1, progress.step)
        name = within if progress.batch else done
        written = [self._write(sample, name, progress, sr) for sample in taken]
        before = [sample for sample in self._samples if sample.step != progress.step]
        if progress.is_best:
            before = [replace(sample, best=False) for sample in before]
        before = [sample for sample in before if sample.best or sample.validation % stride == 0]
        self._keep([*before, *written])
        return written

    def remove_repeated(self, progress: Progress) -> None:
        """Removes the samples of all validations that a run continuing from this progress will repeat.

        Raises:
            OSError: a file can't be removed.
        """
        names = ["validate/score"]
        kept = [sample for sample in self._samples if not progress.repeats(names, step=sample.step, epoch=sample.epoch)]
        if len(kept) < len(self._samples):
            self._keep(kept)

    def _keep(self, samples: list[Sample]) -> None:
        """Writes the index, and removes all folders of validations that the index does not contain."""
        make_folder(self._folder)
        write_samples(self._run, samples)
        self._samples = samples
        kept = {PurePosixPath(path).parts[0] for sample in samples for path in sample.paths}
        for folder in self._folder.iterdir():
            if _OF_VALIDATION.fullmatch(folder.name) and folder.name not in kept:
                remove(folder)

    def _write(self, taken: TakenSample, validation: str, progress: Progress, sr: int) -> Sample:
        subfolder = "/".join((_part(taken.dataset), _part(taken.id)))
        sample_folder = f"{validation}/{subfolder}"
        signals = {}
        for name, wave in taken.waves.items():
            if not torch.isfinite(wave).all():
                continue
            peak = float(wave.abs().max())
            scaled = wave / peak if peak > 1 else wave
            is_input = name in taken.dataset_signals
            path = f"{_INPUTS}/{subfolder}/{_part(name)}.flac"
            # If a signal of the data set has changed, the old file is kept, because earlier samples refer to it.
            if not is_input or ((self._folder / path).exists() and not _has(self._folder / path, scaled)):
                path = f"{sample_folder}/{_part(name)}.flac"
            if not is_input or not (self._folder / path).exists():
                with write_pieces(self._folder / path, sr, form="FLAC") as writer:
                    writer.write(scaled)
            signals[name] = SampleSignal(path, is_input, round(-20 * math.log10(peak), 2) if peak > 1 else 0.0)
        make_folder(self._folder / sample_folder)
        from PIL import Image

        # With 256 colours, values change by at most 2 of 255. The file has a third of the size, in half the time.
        sheet = draw_sheet(taken.waves, sr).quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        write_whole(self._folder / sample_folder / _SHEET, _png(sheet))
        return Sample(
            epoch=progress.current_epoch,
            step=progress.step,
            validation=progress.validations,
            best=progress.is_best,
            dataset=taken.dataset,
            id=taken.id,
            sr=sr,
            begin=taken.begin,
            seconds=max(map(len, taken.waves.values())) / sr,
            sheet=f"{sample_folder}/{_SHEET}",
            signals=signals,
        )


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _part(name: str) -> str:
    """Returns a name as a relative path that stays within its folder."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "//", "..")]
    return fit_for_file("/".join(parts)) or "_"


def _has(path: Path, wave: Tensor) -> bool:
    """Returns whether an audio file contains exactly this signal, as 16-bit samples."""
    try:
        samples, _ = soundfile.read(path, dtype="int16")
    except soundfile.LibsndfileError:
        return False
    full = 1 << 15
    wanted = np.round(wave.numpy().astype(np.float64) * full).clip(-full, full - 1)
    return np.array_equal(samples, wanted)
