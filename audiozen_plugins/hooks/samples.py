"""Writes the network's output for a few validation files, as audio and spectrograms."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from audiozen_core.binding.ranges import Range, check_ranges
from audiozen_core.errors import DataError, RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.kinds import Mode
from audiozen_core.results.samples import Sample, read_samples
from audiozen_core.trainer.sample_files import TakenSample, WrittenSamples

_Key = tuple[str, str]


class Samples:
    """Writes the signals of a few validation files, and a picture of each file, to `samples/` in the run folder.

    The hook chooses the files whose IDs have the smallest hashes, or the files that `files` names. So the files are the
    same in every validation, in every run with this validation set, and for any number of processes and any batch size.
    The signals are written as FLAC files. The trainer decides which signals there are; the trainer `enhancement` has
    `noisy`, `enhanced` and `clean`. Signals that come from the data set are written only once. The picture shows the
    spectrograms of all signals with the same colour scale.

    The hook keeps the samples of several validations, spread over the whole training run. If there are more than
    `keep`, it deletes the samples of every second validation, and from then on writes samples only for every second
    validation. The samples of the best validation are always kept.

    The hook is on by default. It draws no random numbers. If its files can't be written, training continues with a
    warning. `on_samples` passes the files to other hooks, such as `tensorboard`, except if they were written only
    because the validation is the best so far.

    Args:
        count: the number of files from each validation set.
        files: the IDs of the files to choose, such as `["p232_001", "p257_430"]`.
        every: write samples at most in every N-th validation.
        keep: the largest number of validations whose samples are kept, in addition to the best validation.
        max_seconds: the length to which longer files are cut. The middle of the file is kept.

    Raises:
        RunError: an argument is out of range.
    """

    default = True
    affects_training = False
    stays_in_folder = True
    signal_modes: ClassVar[tuple[Mode, ...]] = ("validate",)

    def __init__(
        self,
        count: Annotated[int, Range(least=1)] = 4,
        files: Sequence[str] = (),
        every: Annotated[int, Range(least=1)] = 1,
        keep: Annotated[int, Range(least=1)] = 10,
        max_seconds: Annotated[float, Range(above=0)] = 10.0,
    ) -> None:
        check_ranges(Samples, locals())
        self.count = count
        self.files = frozenset(files)
        self.every = every
        self.keep = keep
        self.max_seconds = max_seconds
        self._training = False
        self._validations = 0
        self._collected: dict[_Key, TakenSample] = {}
        self._written: WrittenSamples | None = None
        self._warned: set[str] = set()

    @hookimpl.on_run_start
    def on_run_start(self, trainer: Trainer, mode: Mode) -> None:
        """Removes the samples of the validations that the training will repeat."""
        self._training, self._collected = mode == "train", {}
        if not self._training or not trainer.ranks.is_main:
            return
        try:
            samples = read_samples(trainer.folder)
        except RunError as error:
            trainer.log.warning(f"the earlier samples are ignored: {error.message}")
            samples = []
        self._written = WrittenSamples(trainer.folder, samples)
        self._remove_repeated(trainer)

    @hookimpl.on_rollback
    def on_rollback(self, trainer: Trainer) -> None:
        """Removes the samples of the validations that the training will repeat."""
        self._remove_repeated(trainer)

    @hookimpl.on_evaluation_start
    def on_evaluation_start(self, trainer: Trainer) -> None:
        """Begins to collect signals."""
        self._collected = {}
        self._validations = trainer.progress.validations

    @hookimpl.on_evaluation_step_end
    def on_evaluation_step_end(
        self,
        trainer: Trainer,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
        signals: Sequence[Mapping[str, Tensor]],
    ) -> None:
        """Copies the signals of the chosen files."""
        if not self._training or not signals:
            return
        dataset = trainer.dataset_name("validate", dataloader_idx)
        for index, (id, shown) in enumerate(zip(_ids(batch, batch_idx, len(signals)), signals, strict=True)):
            key = dataset, id
            if key in self._collected or not self._wants(key):
                continue
            waves = self._waves(trainer, shown)
            if waves:
                self._collected[key] = self._copied(trainer, key, waves, _dataset_signals(batch, index, waves))
                self._drop_surplus(dataset)

    @hookimpl.on_evaluation_end
    def on_evaluation_end(self, trainer: Trainer, mode: Mode) -> None:
        """Writes the samples of this validation if they are kept, and passes them to the other hooks."""
        taken, self._collected = self._collected, {}
        if not self._training or mode != "validate":
            return
        progress, stride = trainer.progress, self._stride(trainer.progress.validations)
        is_due = progress.validations > self._validations and progress.validations % stride == 0
        if not is_due and not progress.is_best:
            return
        chosen = self._of_all_ranks(trainer, taken)
        if self._written is None:
            return
        self._warn_of_missing(trainer, {id for _, id in chosen})
        if not chosen:
            return
        samples: list[Sample] = []
        try:
            samples = self._written.write(list(chosen.values()), trainer.progress, trainer.sr, stride)
        except (OSError, DataError) as error:
            self._warn(trainer, "samples can't be written, so some of them will be missing", str(error))
        if samples and is_due:  # with every best validation, a tracker would get too many samples
            trainer.hooks.on_samples(trainer=trainer, samples=samples, step=progress.step, epoch=progress.current_epoch)

    @hookimpl.on_evaluation_abandoned
    def on_evaluation_abandoned(self) -> None:
        """Discards the signals."""
        self._collected = {}

    def _stride(self, validation: int) -> int:
        stride = self.every
        while validation // stride > self.keep:
            stride *= 2
        return stride

    def _wants(self, key: _Key) -> bool:
        if self.files:
            return key[1] in self.files
        rivals = [other for other in self._collected if other[0] == key[0]]
        return len(rivals) < self.count or _rank(key) < max(map(_rank, rivals))

    def _drop_surplus(self, dataset: str) -> None:
        own = sorted((key for key in self._collected if key[0] == dataset), key=_rank)
        for key in () if self.files else own[self.count :]:
            del self._collected[key]

    def _waves(self, trainer: Trainer, shown: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the signals of a file that are waveforms [time] with at least one sample."""
        waves = {name: wave for name, wave in shown.items() if wave.ndim == 1 and not wave.is_complex()}
        if others := shown.keys() - waves.keys():
            self._warn(trainer, f"{', '.join(sorted(others))}: only signals [time] are written as samples", "")
        return waves if all(map(len, waves.values())) else {}

    def _copied(
        self, trainer: Trainer, key: _Key, waves: Mapping[str, Tensor], dataset_signals: frozenset[str]
    ) -> TakenSample:
        whole = min(map(len, waves.values()))
        begin = max(0, whole - round(self.max_seconds * trainer.sr)) // 2
        end = begin + round(self.max_seconds * trainer.sr)
        cut = {name: wave[begin:end].detach().to("cpu", torch.float32, copy=True) for name, wave in waves.items()}
        return TakenSample(*key, begin / trainer.sr, cut, dataset_signals)

    def _of_all_ranks(self, trainer: Trainer, taken: dict[_Key, TakenSample]) -> dict[_Key, TakenSample]:
        """Returns the samples of all ranks. Each rank chose the smallest hashes among its own files."""
        if trainer.ranks.several:
            keys = sorted({key for of_rank in trainer.ranks.gather(list(taken)) for key in of_rank}, key=_rank)
            datasets = {dataset for dataset, _ in keys}
            most = len(keys) if self.files else self.count
            kept = {key for name in datasets for key in [own for own in keys if own[0] == name][:most]}
            mine = {key: sample for key, sample in taken.items() if key in kept}
            taken = {key: sample for of_rank in trainer.ranks.gather(mine) for key, sample in of_rank.items()}
        return dict(sorted(taken.items()))

    def _remove_repeated(self, trainer: Trainer) -> None:
        if self._written is not None:
            try:
                self._written.remove_repeated(trainer.progress)
            except OSError as error:
                self._warn(trainer, "samples of repeated validations can't be removed", str(error))

    def _warn_of_missing(self, trainer: Trainer, found: set[str]) -> None:
        if missing := self.files - found:
            self._warn(trainer, f"no validation set has the file {', '.join(sorted(missing))}, which `files` names", "")

    def _warn(self, trainer: Trainer, message: str, reason: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            trainer.log.warning(message, **({"reason": reason} if reason else {}))


def _rank(key: _Key) -> tuple[bytes, str]:
    return hashlib.sha256(key[1].encode("utf-8", "surrogatepass")).digest(), key[1]


def _ids(batch: Any, batch_idx: int, count: int) -> list[str]:
    """Returns the IDs of the files of a batch, or names made of their positions if the batch has no IDs."""
    ids = batch.get("id") if isinstance(batch, Mapping) else None
    if isinstance(ids, Sequence) and not isinstance(ids, str) and len(ids) == count:
        return [str(id) for id in ids]
    return [f"batch_{batch_idx:04d}_{index}" for index in range(count)]


def _dataset_signals(batch: Any, index: int, waves: Mapping[str, Tensor]) -> frozenset[str]:
    """Returns the names of the signals that come from the data set, because the batch contains them.

    Each tensor of the batch is matched only once, so that an output that equals the input is not mistaken for the
    input.
    """
    rows = {
        key: value[index]
        for key, value in (batch.items() if isinstance(batch, Mapping) else ())
        if isinstance(value, Tensor) and value.ndim == 2 and index < len(value) and not value.is_complex()
    }
    found = set()
    for name, wave in sorted(waves.items(), key=lambda item: item[0] not in rows):
        for key in [name] if name in rows else list(rows):
            if len(rows[key]) >= len(wave) and torch.equal(rows[key][: len(wave)].float().cpu(), wave.float().cpu()):
                found.add(name)
                del rows[key]
                break
    return frozenset(found)
