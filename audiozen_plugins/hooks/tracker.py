"""The base class of hooks for experiment trackers. A hook for another tracker is a subclass with six methods."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import tomli

from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.hooks.ending import RunEnding
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.kinds import Mode
from audiozen_core.results.samples import Sample
from audiozen_core.storage.atomic import make_folder, write_whole
from audiozen_core.trainer.state import kept_generators

RECORDS = "trackers"
"""The folder in the run folder with the IDs of the records that the trackers have of the run."""


class Tracker:
    """Sends the config, all scalars, the samples, the names of the checkpoints and the ending of a run to a tracker.

    `trackers/<name>.json` in the run folder has the ID of the tracker's record. A resumed run, and a test or a
    validation of its checkpoints, continue this record. The steps that a resumed run repeats are recorded again.

    If a tracker can't be opened at the start, this is an error. If a tracker fails later, the hook logs a warning, and
    training continues. The tracker then lacks the records until the next epoch, but `metrics.jsonl` has them. The hook
    changes no random generator. It works in the main process only.

    Attributes:
        name: the name of the hook, and of its file in the run folder.
        title: the name of the tracker in messages.
    """

    main_process_only = True
    affects_training = False
    name: ClassVar[str]
    title: ClassVar[str]

    def __init__(self) -> None:
        self._opened = False
        self._muted = False
        self._sent: set[str] = set()

    # ------------------------------------------------------------------------------- what a subclass defines

    def open(self, trainer: Trainer, record: str | None, config: Mapping[str, Any]) -> str:
        """Opens the record of a run.

        Args:
            trainer: the trainer.
            record: the ID of the run's record; None to make a new one.
            config: the values of the effective config, by dotted keys.

        Returns:
            The ID of the record.
        """
        raise NotImplementedError

    def log_scalars(self, scalars: Mapping[str, float], step: int, epoch: int) -> None:
        """Records scalars."""
        raise NotImplementedError

    def log_text(self, file: str, text: str) -> None:
        """Stores a text file in the record."""
        raise NotImplementedError

    def log_note(self, name: str, value: str) -> None:
        """Stores a short text, such as the name of a checkpoint. A later text with the same name replaces it."""
        raise NotImplementedError

    def log_sample(self, sample: Sample, audio: Mapping[str, Path], sheet: Path) -> None:
        """Records the audio of a validation file, by the names of the signals, and the picture of spectrograms."""
        raise NotImplementedError

    def close(self, ending: RunEnding) -> None:
        """Closes the record."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------- the hooks

    @hookimpl.on_run_start
    def on_run_start(self, trainer: Trainer, mode: Mode) -> None:
        """Opens the record.

        Raises:
            RunError: the tracker can't be opened.
        """
        if mode == "predict":  # a prediction has nothing to record
            return
        path = trainer.folder / RECORDS / f"{self.name}.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))["id"] if path.exists() else None
            with kept_generators():
                opened = self.open(trainer, record, flat(trainer.config_text))
        except AudioZenError:
            raise
        except Exception as error:
            raise RunError(
                f"{self.title} can't record the run: {str(error).strip() or type(error).__name__}",
                remedy=f"check the arguments of the hook `{self.name}` and its environment variables, or leave it out",
            ) from error
        self._opened, self._muted, self._sent = True, False, set()
        make_folder(path.parent)
        write_whole(path, json.dumps({"id": opened}) + "\n")
        with self._going_on(trainer):
            # The config of a resumed run may have changed.
            step = trainer.progress.step
            file = f"config_step_{step:07d}.toml" if record and mode == "train" and step else "config.toml"
            self.log_text(file, trainer.config_text)

    @hookimpl.on_epoch_start
    def on_epoch_start(self) -> None:
        """Tries again after an error."""
        self._muted = False

    @hookimpl.on_log
    def on_log(self, trainer: Trainer, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        """Records the scalars."""
        with self._going_on(trainer) as works:
            if works:
                self.log_scalars(dict(metrics), step, epoch)
                if trainer.checkpoint_name:
                    self.log_note("evaluated_checkpoint", trainer.checkpoint_name)

    @hookimpl.on_samples
    def on_samples(self, trainer: Trainer, samples: Sequence[Sample]) -> None:
        """Records the samples. Signals that come from the data set are recorded only once."""
        with self._going_on(trainer) as works:
            for sample in samples if works else ():
                new = {name: one.path for name, one in sample.signals.items() if one.path not in self._sent}
                folder = trainer.folder / "samples"
                self.log_sample(sample, {name: folder / path for name, path in new.items()}, folder / sample.sheet)
                self._sent.update(one.path for one in sample.signals.values() if one.from_dataset)

    @hookimpl.on_checkpoint_saved
    def on_checkpoint_saved(self, trainer: Trainer, folder: Path, is_best: bool) -> None:
        """Records the name of the checkpoint."""
        with self._going_on(trainer) as works:
            for name in ("latest_checkpoint", "best_checkpoint") if works else ():
                if is_best or name == "latest_checkpoint":
                    self.log_note(name, folder.name)

    @hookimpl.on_teardown
    def on_teardown(self, trainer: Trainer, ending: RunEnding) -> None:
        """Records how the run ended, and closes the record."""
        opened, self._opened, self._muted = self._opened, False, False
        if opened:
            self._opened = True
            with self._going_on(trainer):
                self.log_note("ending", f"{ending.kind}: {ending.reason}" if ending.reason else ending.kind)
            self._muted = False
            with self._going_on(trainer):
                self.close(ending)
            self._opened = False

    @contextmanager
    def _going_on(self, trainer: Trainer) -> Iterator[bool]:
        """Yields whether the tracker works, and converts its errors to a warning."""
        try:
            with kept_generators():
                yield self._opened and not self._muted
        except Exception as error:
            self._muted = True
            trainer.log.warning(
                f"{self.title} has failed, so some records will be missing there; `metrics.jsonl` has them",
                reason=str(error).strip() or type(error).__name__,
            )


def flat(text: str) -> dict[str, Any]:
    """Returns the values of a TOML text by dotted keys. Lists of tables are numbered from 0, other lists are JSON.

    Example:
        >>> flat('[trainer.args]\\nmax_epochs = 4\\n[[hooks]]\\npath = "ema"\\n')
        {'trainer.args.max_epochs': 4, 'hooks.0.path': 'ema'}
    """

    def leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            value = {str(index): entry for index, entry in enumerate(value)}
        if isinstance(value, dict):
            for name, entry in value.items():
                yield from leaves(entry, f"{key}.{name}" if key else name)
        elif isinstance(value, bool | int | float | str):
            yield key, value
        else:
            yield key, json.dumps(value, default=str)

    return dict(leaves(tomli.loads(text), ""))
