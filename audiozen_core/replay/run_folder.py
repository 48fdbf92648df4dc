"""Read-only access to a run folder: its checkpoints, configuration and records."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from audiozen_core.checkpoint.info import CheckpointInfo
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.config.toml.document import Document
from audiozen_core.config.used_plugins import RECORDS, used_plugins_header
from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import CheckpointError, RunError
from audiozen_core.experiment.config_diff import PLACES, compare_configs
from audiozen_core.experiment.load_run import checkpoint_config
from audiozen_core.experiment.provenance import FIRST_BATCHES, PROCESSES, TRAINING_SAMPLES
from audiozen_core.experiment.resume import find_component
from audiozen_core.experiment.run_records import training_records
from audiozen_core.hooks.progress import Progress
from audiozen_core.logging import get_logger
from audiozen_core.replay.target import Target
from audiozen_core.results.metric_records import FILE, read_records


@dataclass(frozen=True, slots=True)
class SavedCheckpoint:
    """A checkpoint, and the progress of the training when it was saved."""

    path: Path
    progress: Progress


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a run when it reached a target.

    Attributes:
        config: the configuration.
        import_from: the override with the folders that contain the experiment's own modules.
        ranks: the number of processes.
        first_batches: the number of batches that a trial used; None if the run used all batches.
    """

    config: Document
    import_from: Mapping[str, list[str]]
    ranks: int
    first_batches: int | None


class RunFolder:
    """The folder of a training run. The run may still be active.

    Args:
        folder: the run folder, such as `exp/baseline`.

    Raises:
        RunError: the folder does not belong to a training run.
    """

    def __init__(self, folder: Path) -> None:
        if folder.suffix == ".toml" and folder.is_file():
            raise RunError(
                f"`{folder}` is an experiment file, not a run folder",
                remedy="give the run folder of the experiment, such as `exp/baseline`; to see training data before a "
                "run, use `audiozen run EXP.toml --preview 20`",
            )
        self.folder = folder
        self.store = CheckpointStore(folder / "checkpoints")
        self.records = training_records(folder)
        if not self.records and not self.store.list(verify=False):
            reason = "does not exist" if not folder.exists() else f"has no file `{RECORDS}` of a training run"
            raise RunError(
                f"`{folder}` is not the folder of a training run: it {reason}",
                remedy=f"give a run folder, such as `exp/baseline`; relative paths start from `{Path.cwd()}`",
            )

    def checkpoints(self) -> list[CheckpointInfo]:
        """Returns the intact checkpoints that the training has saved, without stale checkpoints."""
        found = self.store.list(verify=False)
        return [info for info in found if info.intact and info.managed and not info.stale]

    @property
    def is_finetuning(self) -> bool:
        """Whether the training started from the weights of another run."""
        return bool(self.records) and "finetune" in used_plugins_header(self.records[-1], "modes").split()

    def before(self, target: Target) -> SavedCheckpoint | None:
        """Returns the last checkpoint before the target; None if there is none."""
        return max(self._saved(target, before=True), key=_position, default=None)

    def after(self, target: Target) -> SavedCheckpoint | None:
        """Returns the first checkpoint after the target; None if there is none."""
        return min(self._saved(target, before=False), key=_position, default=None)

    def _saved(self, target: Target, *, before: bool) -> list[SavedCheckpoint]:
        return [saved for saved in self._all_saved if target.follows(saved.progress) == before]

    @functools.cached_property
    def _all_saved(self) -> list[SavedCheckpoint]:
        """The checkpoints at the time of the first access. An active training may delete some of them later."""
        checkpoints = []
        for info in self.checkpoints():
            try:
                state = self.store.load(info.path, owners=("progress",)).state["progress"]
            except CheckpointError as error:
                if info.path.exists():
                    get_logger().warning(
                        "a checkpoint can't be read and is ignored", checkpoint=info.name, reason=error.message
                    )
                continue
            names = {field.name for field in fields(Progress)}
            progress = Progress(**{name: value for name, value in state.items() if name in names})
            checkpoints.append(SavedCheckpoint(info.path, progress))
        return checkpoints

    def settings(self, target: Target) -> Settings:
        """Returns the settings of the run when it reached a target.

        The settings come from the first checkpoint after the target, or else from the newest config file of a start
        that trained. If the checkpoint before the target has other settings, the run was resumed with changes, and a
        warning is logged.

        Raises:
            RunError: the folder contains no configuration.
        """
        before, after = self.before(target), self.after(target)
        record = self.records[0] if self.records else None
        if after is not None:
            config, import_from = checkpoint_config(after.path, self.folder)
        elif record is not None:
            config = Document.read(record)
            import_from = {"meta.import_from": config.values["meta"]["import_from"]}
        else:
            assert before is not None  # otherwise the constructor would have raised an error
            config, import_from = checkpoint_config(before.path, self.folder)
        if before is not None:
            self._warn_of_changes(before, config)
        ranks = int((record and used_plugins_header(record, PROCESSES)) or 1)
        if (nearest := after or before) is not None:
            ranks = nearest.progress.ranks
        first_batches = used_plugins_header(record, FIRST_BATCHES) if record else ""
        return Settings(config, import_from, ranks, int(first_batches) if first_batches else None)

    def _warn_of_changes(self, before: SavedCheckpoint, config: Document) -> None:
        earlier, _ = checkpoint_config(before.path, self.folder)
        changes = compare_configs(earlier.source.text, config.source.text, find_component)
        if changed := [str(change) for change in changes if change.affects_training and change.key not in PLACES]:
            get_logger().warning(
                "the run was resumed with changed settings; the replay uses the settings after the change, but this "
                "batch may have been trained before the change",
                changed="; ".join(changed),
                checkpoint=before.path.name,
            )

    def check_size(self, size: int | None) -> None:
        """Compares the current number of training samples with the numbers that the run recorded.

        Args:
            size: the current number of training samples; None if it is unknown.

        Raises:
            RunError: the run never had this number of training samples.
        """
        recorded = {int(count) for record in self.records if (count := used_plugins_header(record, TRAINING_SAMPLES))}
        if size is None or not recorded:
            return
        recorded_text = listed([str(count) for count in sorted(recorded)])
        if size not in recorded:
            raise RunError(
                f"the training data has changed: it has {size} samples now, but had {recorded_text} when the run was "
                "trained",
                remedy="restore the data, because the batch would contain other samples",
            )
        if len(recorded) > 1:
            get_logger().warning(
                "the training data changed during the run, so batches from before the change can't be recreated",
                samples=recorded_text,
            )

    def recorded(self, step: int) -> tuple[int | None, dict[str, float | None]]:
        """Returns the record of an optimiser step in `metrics.jsonl`.

        Returns:
            The epoch of the step, or None if there is no record; and the scalars of the step by name, such as `loss`.
            A scalar is None if the number was not finite.
        """
        path = self.folder / FILE
        epoch, scalars = None, {}
        for record in read_records(path) if path.is_file() else ():
            values = {name.removeprefix("step/"): value for name, value in record.items() if name.startswith("step/")}
            if values and record.get("step") == step:
                epoch, scalars = record.get("epoch"), values
        return epoch, scalars


def _position(saved: SavedCheckpoint) -> tuple[int, int, int]:
    return saved.progress.epoch, saved.progress.batch, saved.progress.step
