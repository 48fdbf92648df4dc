"""The folder of a run, which is only read: its checkpoints, its configuration, and what its records say."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from audiozen_core.checkpoint import CheckpointStore
from audiozen_core.checkpoint.info import CheckpointInfo
from audiozen_core.config.toml.document import Document
from audiozen_core.config.used_plugins import RECORDS, header
from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import CheckpointError, RunError
from audiozen_core.experiment.config_diff import PLACES, compare_configs
from audiozen_core.experiment.load_run import config_of
from audiozen_core.experiment.provenance import FIRST_BATCHES, PROCESSES, TRAINING_SAMPLES
from audiozen_core.experiment.resume import find_component
from audiozen_core.experiment.run_records import training_records
from audiozen_core.hooks.progress import Progress
from audiozen_core.logging import get_logger
from audiozen_core.replay.target import Target
from audiozen_core.results.metric_records import FILE, read_records


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint, and how far the training was when it was saved."""

    path: Path
    progress: Progress


@dataclass(frozen=True, slots=True)
class Settings:
    """How a training was set up when it came to a target.

    Attributes:
        config: the configuration.
        import_from: the override that says where the run's own modules are.
        ranks: the number of processes.
        first_batches: for a trial, how many batches it has used; None for all.
    """

    config: Document
    import_from: Mapping[str, list[str]]
    ranks: int
    first_batches: int | None


class RunFolder:
    """The folder of a run, which may still be running.

    Args:
        folder: the folder, such as `exp/baseline`.

    Raises:
        RunError: it is not the folder of a training.
    """

    def __init__(self, folder: Path) -> None:
        if folder.suffix == ".toml" and folder.is_file():
            raise RunError(
                f"`{folder}` is the file of an experiment, not the folder of a run",
                remedy="name the folder of its run, such as `exp/baseline`; `audiozen run EXP.toml --preview 20` shows "
                "the training data before a run",
            )
        self.folder = folder
        self.store = CheckpointStore(folder / "checkpoints")
        self.records = training_records(folder)
        if not self.records and not self.store.list(verify=False):
            reason = "does not exist" if not folder.exists() else f"has no record `{RECORDS}` of a training"
            raise RunError(
                f"`{folder}` is not the folder of a training: it {reason}",
                remedy="name the folder of a run, such as `exp/baseline`; relative paths are resolved from "
                f"`{Path.cwd()}`",
            )

    def checkpoints(self) -> list[CheckpointInfo]:
        """Returns the checkpoints that the training has saved and that are part of its present course."""
        found = self.store.list(verify=False)
        return [info for info in found if info.intact and info.managed and not info.stale]

    @property
    def is_finetuning(self) -> bool:
        """Whether the training has started from the weights of another run."""
        return bool(self.records) and "finetune" in header(self.records[-1], "modes").split()

    def before(self, target: Target) -> Saved | None:
        """Returns the nearest checkpoint from which a training comes to the target; None if there is none."""
        return max(self._saved(target, before=True), key=_position, default=None)

    def after(self, target: Target) -> Saved | None:
        """Returns the first checkpoint that was saved after the target; None if there is none."""
        return min(self._saved(target, before=False), key=_position, default=None)

    def _saved(self, target: Target, *, before: bool) -> list[Saved]:
        return [saved for saved in self._all_saved if target.follows(saved.progress) == before]

    @functools.cached_property
    def _all_saved(self) -> list[Saved]:
        """The checkpoints as they are now; a running training may delete some of them meanwhile."""
        found = []
        for info in self.checkpoints():
            try:
                state = self.store.load(info.path, owners=("progress",)).state["progress"]
            except CheckpointError as error:
                if info.path.exists():
                    get_logger().warning("a checkpoint is not used", checkpoint=info.name, reason=error.message)
                continue
            names = {field.name for field in fields(Progress)}
            progress = Progress(**{name: value for name, value in state.items() if name in names})
            found.append(Saved(info.path, progress))
        return found

    def settings(self, target: Target) -> Settings:
        """Returns how the training was set up when it came to a target.

        These are the settings of the first checkpoint after it, or those of the newest record of a training. A warning
        says if others were saved before the target, because the run may have been resumed with changes in between.

        Raises:
            RunError: nothing in the folder has a configuration.
        """
        before, after = self.before(target), self.after(target)
        record = self.records[0] if self.records else None
        if after is not None:
            config, import_from = config_of(after.path, self.folder)
        elif record is not None:
            config = Document.read(record)
            import_from = {"meta.import_from": config.values["meta"]["import_from"]}
        else:
            assert before is not None  # otherwise this is not the folder of a training
            config, import_from = config_of(before.path, self.folder)
        if before is not None:
            self._warn_of_changes(before, config)
        ranks = int((record and header(record, PROCESSES)) or 1)
        if (near := after or before) is not None:
            ranks = near.progress.ranks
        first = header(record, FIRST_BATCHES) if record else ""
        return Settings(config, import_from, ranks, int(first) if first else None)

    def _warn_of_changes(self, before: Saved, config: Document) -> None:
        earlier, _ = config_of(before.path, self.folder)
        changes = compare_configs(earlier.source.text, config.source.text, find_component)
        if changed := [str(change) for change in changes if change.affects_training and change.key not in PLACES]:
            get_logger().warning(
                "the run was resumed with other settings; the replay uses the later ones, which may not be those of "
                "this batch",
                changed="; ".join(changed),
                checkpoint=before.path.name,
            )

    def check_size(self, size: int | None) -> None:
        """Compares the number of training samples now with that of the trainings.

        Raises:
            RunError: no training of this run had so many.
        """
        recorded = {int(count) for record in self.records if (count := header(record, TRAINING_SAMPLES))}
        if size is None or not recorded:
            return
        had = listed([str(count) for count in sorted(recorded)])
        if size not in recorded:
            raise RunError(
                f"the training data has changed: it has {size} samples now, and had {had} when the run was trained",
                remedy="restore the data; other samples would be in the batch",
            )
        if len(recorded) > 1:
            get_logger().warning(
                "the training data has changed in the course of the run, so earlier batches can't be made again",
                samples=had,
            )

    def recorded(self, step: int) -> tuple[int | None, dict[str, float | None]]:
        """Returns what `metrics.jsonl` has for an optimiser step.

        Returns:
            The epoch, None without a record; and the scalars of the step by name, such as `loss`. None stands for
            a number that was not finite.
        """
        path = self.folder / FILE
        epoch, found = None, {}
        for record in read_records(path) if path.is_file() else ():
            scalars = {name.removeprefix("step/"): value for name, value in record.items() if name.startswith("step/")}
            if scalars and record.get("step") == step:
                epoch, found = record.get("epoch"), scalars
        return epoch, found


def _position(saved: Saved) -> tuple[int, int, int]:
    return saved.progress.epoch, saved.progress.batch, saved.progress.step
