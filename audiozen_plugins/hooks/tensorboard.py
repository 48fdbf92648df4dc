"""Writes scalars, samples, histograms, and the config as text, to `tb_log/` for TensorBoard."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import soundfile
import torch

from audiozen_core.binding.ranges import Range, check_ranges
from audiozen_core.errors import MissingExtraError
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.kinds import Mode
from audiozen_core.results.samples import Sample
from audiozen_core.trainer.module_state import named_weights

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes every recorded scalar, the samples and the effective config for `tensorboard --logdir`.

    The samples come from the hook `samples`. TensorBoard shows the audio of each signal, and a picture with the
    spectrograms of each file. Signals that come from the data set are written only once.

    The scalars of a validation, test or prediction that runs without training are in the folder `evaluation`, which
    TensorBoard shows as another run. So these scalars stay visible when a resumed run hides the points of the steps
    that it will repeat.

    The hook is on by default if TensorBoard is installed. A TOML file that names the hook requires TensorBoard. If the
    disk is full, the run continues without writing points here (`metrics.jsonl` still has them), and the next epoch
    opens the log again.

    Args:
        required: whether it is an error if TensorBoard is not installed.
        histogram_epochs: write histograms of all weights and of their gradients every N epochs, at the first step of
            the epoch; 0 for never. The gradients are taken after clipping. The run waits for the histograms. With
            `fully_sharded`, weights that are split among processes get no histogram.

    Raises:
        MissingExtraError: TensorBoard is required and not installed.
        RunError: `histogram_epochs` is negative.
    """

    default = True
    main_process_only = True
    default_args: ClassVar = {"required": False}
    affects_training = False
    stays_in_folder = True

    def __init__(self, required: bool = True, histogram_epochs: Annotated[int, Range(least=0)] = 0) -> None:
        check_ranges(TensorBoard, locals())
        self.histogram_epochs = histogram_epochs
        self._histograms_due = False
        self._written_inputs: set[str] = set()
        self._writer: SummaryWriter | None = None
        self._failed = False
        self._folder = Path()
        self._make: type[SummaryWriter] | None = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            if required:
                raise MissingExtraError("tensorboard", extra="tensorboard", needed_by="the hook tensorboard") from error
        else:
            self._make = SummaryWriter

    def idle_hooks(self, trainer: Trainer) -> Collection[str]:
        """Returns the hook that writes histograms, if this run writes no histograms."""
        return () if self.histogram_epochs else ("on_gradients_ready",)

    @hookimpl.on_run_start
    def on_run_start(self, trainer: Trainer, mode: Mode) -> None:
        """Opens the log. A resumed run hides the points of the steps that it will repeat."""
        training = mode == "train"
        self._written_inputs = set()  # signals that were written in a hidden step must be written again
        self._folder = trainer.folder / "tb_log" if training else trainer.folder / "tb_log" / "evaluation"
        with self._tolerate_full_disk(trainer):
            self._open(trainer.progress.step + 1 if training and trainer.progress.step else None)
            if self._writer is not None and training and trainer.config_text:
                self._writer.add_text("config", f"```toml\n{trainer.config_text}\n```", trainer.progress.step)

    @hookimpl.on_rollback
    def on_rollback(self, trainer: Trainer) -> None:
        """Hides the points of the steps that will be repeated."""
        self.on_teardown(trainer)
        self.on_run_start(trainer, "train")

    @hookimpl.on_epoch_start
    def on_epoch_start(self, trainer: Trainer, epoch: int) -> None:
        """Opens the log again after an error."""
        self._histograms_due = self.histogram_epochs > 0 and (epoch - 1) % self.histogram_epochs == 0
        if self._failed:
            with self._tolerate_full_disk(trainer):
                self._open(None)
                self._failed = False

    @hookimpl.on_gradients_ready
    def on_gradients_ready(self, trainer: Trainer) -> None:
        """Adds the histograms at the first step of an epoch, if they are due."""
        if self._writer is None or not self._histograms_due:
            return
        self._histograms_due = False
        step = trainer.progress.step + 1
        with self._tolerate_full_disk(trainer):
            for suffix, network in trainer.models.items():
                for name, weight in named_weights(network):
                    tag = f"{f'{suffix}/' * bool(suffix)}{name}"
                    for kind, values in (("weights", weight), ("gradients", weight.grad)):
                        if _can_be_counted(values):
                            self._writer.add_histogram(f"{kind}/{tag}", values, step)

    @hookimpl.on_samples
    def on_samples(self, trainer: Trainer, samples: Sequence[Sample], step: int) -> None:
        """Adds the audio and the pictures."""
        folder = trainer.folder / "samples"
        with self._tolerate_full_disk(trainer):
            for sample in samples if self._writer else ():
                assert self._writer is not None
                for name, signal in sample.signals.items():
                    tag = f"samples/{sample.title}/{name}"
                    if not signal.from_dataset or tag not in self._written_inputs:
                        wave, sr = soundfile.read(folder / signal.path, dtype="float32")
                        self._writer.add_audio(tag, torch.from_numpy(wave), step, sample_rate=sr)
                        self._written_inputs.add(tag)
                self._add_picture(f"samples/{sample.title}", (folder / sample.sheet).read_bytes(), step)

    @hookimpl.on_log
    def on_log(self, trainer: Trainer, metrics: Mapping[str, float], step: int) -> None:
        """Adds the scalars."""
        with self._tolerate_full_disk(trainer):
            if self._writer is not None:
                self._add_scalars(metrics, step)
            if self._writer is not None and trainer.checkpoint_name:
                self._writer.add_text("checkpoint", f"{trainer.checkpoint_name}: {', '.join(metrics)}", step)

    @hookimpl.on_teardown
    def on_teardown(self, trainer: Trainer) -> None:
        """Closes the log."""
        with self._tolerate_full_disk(trainer):
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()

    def _open(self, purge_step: int | None) -> None:
        if self._make is not None:
            self._writer = self._make(str(self._folder), purge_step=purge_step)

    def _add_scalars(self, metrics: Mapping[str, float], step: int) -> None:
        """Adds all scalars of a record as one event. `add_scalar` would write an event for each of them."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in metrics.items()]
        assert self._writer is not None
        self._writer._get_file_writer().add_summary(Summary(value=values), step)  # type: ignore[no-untyped-call]

    def _add_picture(self, tag: str, png: bytes, step: int) -> None:
        """Adds the bytes of a PNG file. `add_image` would encode the picture again, at three times the size."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        with Image.open(io.BytesIO(png)) as picture:
            width, height = picture.size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        assert self._writer is not None
        writer = self._writer._get_file_writer()  # type: ignore[no-untyped-call]
        writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    @contextmanager
    def _tolerate_full_disk(self, trainer: Trainer) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # The error has ended the thread of the writer, so the writer is useless now.
            self._writer, self._failed = None, True
            trainer.log.warning(
                "TensorBoard's log can't be written, so some of its points will be missing", reason=str(error)
            )


def _can_be_counted(values: torch.Tensor | None) -> bool:
    """Returns whether TensorBoard can make a histogram: this process must have all values, and all must be finite."""
    if values is None or type(values.detach()).__name__ == "DTensor" or not values.numel():
        return False
    return bool(torch.isfinite(values).all())
