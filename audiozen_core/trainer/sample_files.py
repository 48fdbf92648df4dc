"""The files of a run's samples: which there are, and how they are written and removed."""

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

_GIVEN, _SHEET = "inputs", "spectrograms.png"
_OF_VALIDATION = re.compile(r"epoch_\d{4,}(_step_\d+)?")


@dataclass(frozen=True, slots=True)
class TakenSample:
    """The signals of one file of a validation.

    Attributes:
        dataset: the name of the validation set.
        id: the ID of the file.
        begin: where the signals begin in the file, in seconds.
        waves: the signals [time] by name, float32 on the CPU.
        given: the names of those that come from the data set.
    """

    dataset: str
    id: str
    begin: float
    waves: Mapping[str, Tensor]
    given: frozenset[str]


class WrittenSamples:
    """The samples in the folder of a run.

    Signals of the data set are in `inputs/<data set>/<ID>/`, all others in a folder for each validation, such as
    `epoch_0003/<data set>/<ID>/`.

    Args:
        run: the folder of the run.
        samples: those that it has.
    """

    def __init__(self, run: Path, samples: Sequence[Sample]) -> None:
        self._run = run
        self._folder = run / FOLDER
        self._samples = list(samples)

    def write(self, taken: Sequence[TakenSample], progress: Progress, sr: int, stride: int) -> list[Sample]:
        """Writes the samples of a validation, and removes older ones beyond the number that is kept.

        Args:
            taken: the samples.
            progress: the progress of the run.
            sr: their sample rate in Hz.
            stride: only validations whose number is divisible by it are kept, and the best one.

        Returns:
            The samples that have been written.

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
        """Removes the samples of the validations that a training will repeat that continues from this progress.

        Raises:
            OSError: a file can't be removed.
        """
        names = ["validate/score"]
        kept = [one for one in self._samples if not progress.repeats(names, step=one.step, epoch=one.epoch)]
        if len(kept) < len(self._samples):
            self._keep(kept)

    def _keep(self, samples: list[Sample]) -> None:
        """Writes the index, and then removes what it no longer names, also what an earlier process has left."""
        make_folder(self._folder)
        write_samples(self._run, samples)
        self._samples = samples
        kept = {PurePosixPath(path).parts[0] for sample in samples for path in sample.paths}
        for folder in self._folder.iterdir():
            if _OF_VALIDATION.fullmatch(folder.name) and folder.name not in kept:
                remove(folder)

    def _write(self, taken: TakenSample, validation: str, progress: Progress, sr: int) -> Sample:
        of_file = "/".join((_part(taken.dataset), _part(taken.id)))
        here = f"{validation}/{of_file}"
        signals = {}
        for name, wave in taken.waves.items():
            if not torch.isfinite(wave).all():
                continue
            peak = float(wave.abs().max())
            scaled = wave / peak if peak > 1 else wave
            given = name in taken.given
            path = f"{_GIVEN}/{of_file}/{_part(name)}.flac"
            # If a signal of the data set has changed since, earlier samples still need the old one.
            if not given or ((self._folder / path).exists() and not _has(self._folder / path, scaled)):
                path = f"{here}/{_part(name)}.flac"
            if not given or not (self._folder / path).exists():
                with write_pieces(self._folder / path, sr, form="FLAC") as writer:
                    writer.write(scaled)
            signals[name] = SampleSignal(path, given, round(-20 * math.log10(peak), 2) if peak > 1 else 0.0)
        make_folder(self._folder / here)
        from PIL import Image

        # 256 colours differ from the others by 2 of 255 at most, and make a third of the file, in half the time.
        sheet = draw_sheet(taken.waves, sr).quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        write_whole(self._folder / here / _SHEET, _png(sheet))
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
            sheet=f"{here}/{_SHEET}",
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
    """Returns whether a file has these samples."""
    try:
        samples, _ = soundfile.read(path, dtype="int16")
    except soundfile.LibsndfileError:
        return False
    full = 1 << 15
    wanted = np.round(wave.numpy().astype(np.float64) * full).clip(-full, full - 1)
    return np.array_equal(samples, wanted)
