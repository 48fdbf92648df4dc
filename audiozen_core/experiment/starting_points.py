"""Finds what a mode starts from: a checkpoint of this run or of another run, a file of weights, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from audiozen_core.checkpoint.directory import follow_link
from audiozen_core.checkpoint.mismatch import mismatch_error
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.checkpoint.weights import load_weights
from audiozen_core.diagnostics.run_options import RESUME
from audiozen_core.errors import RunError
from audiozen_core.experiment.lazy_modules import complete_norms
from audiozen_core.kinds import TRAINING, RunMode, section_name
from audiozen_core.logging import get_logger
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.module_state import ModuleState

_OTHER_MODEL = "give the model the arguments that it had when the checkpoint was saved"


class StartingPoint(NamedTuple):
    """The checkpoint folder or file of weights that a mode starts from, and what the user wrote to choose it."""

    asked_for: str
    path: Path


class StartingPoints:
    """Finds what each mode of a run starts from.

    Args:
        store: the checkpoints of the run.
        modes: the modes of the run, in order.
    """

    def __init__(self, store: CheckpointStore, modes: Sequence[RunMode]) -> None:
        self._store = store
        self._modes = modes

    def check_no_run(self, *, is_trial: bool = False) -> None:
        """Checks that the folder does not contain a run yet, because a new run would overwrite the old one.

        Args:
            is_trial: whether the run is a trial, which can't be continued.

        Raises:
            RunError: the folder contains a run.
        """
        if found := self._store.list(verify=False):
            epochs = [info.epoch for info in found if info.epoch is not None]
            reached = f", up to epoch {epochs[-1]}" if epochs else ""
            folder = self._store.folder.parent
            raise RunError(
                f"`{folder}` already contains a run{reached}, so no new run was started and nothing was changed",
                remedy="remove this folder, or set another `meta.id`; a short run is never continued"
                if is_trial
                else f"continue the run with {RESUME}, or rename the TOML file, because a run is named after its file",
            )

    def of_mode(self, mode: RunMode, which: str | None, *, resume: bool) -> StartingPoint | None:
        """Returns the checkpoint whose weights a mode starts from, or None.

        The result is None for training, and for resumed finetuning that continues from a checkpoint of this run. An
        evaluation uses the checkpoint that `which` names. By default, and always if training has run before in the same
        call, it uses the best checkpoint, or the latest checkpoint if the run has no best checkpoint.
        """
        if mode == "train" or (mode == "finetune" and which is None):
            return None
        if mode == "finetune":
            assert which is not None
            return None if resume and self.continues(mode, which) else self.locate(which)
        trained = any(earlier in TRAINING for earlier in self._modes[: self._modes.index(mode)])
        if which is None or trained:
            which = "best" if self._store.has_best else "latest"
        return self.locate(which)

    def continues(self, mode: RunMode, which: str | None) -> bool:
        """Returns whether a resumed run continues from a checkpoint. Finetuning continues only from its own
        checkpoints.
        """
        named = which is not None and (mode == "train" or self.belongs_to_run(which))
        return named or bool(self._store.list(verify=False))

    def continued(self, mode: RunMode, which: str | None) -> StartingPoint:
        """Finds the checkpoint that a resumed run continues from. Call it only if `continues` returns True."""
        named = which is not None and (mode == "train" or self.belongs_to_run(which))
        return self.locate(which if which is not None and named else "latest")

    def belongs_to_run(self, which: str) -> bool:
        """Returns whether the checkpoint that the user chose belongs to this run."""
        if which in ("best", "latest"):
            return True
        folder, path = self._store.folder, Path(which)
        return (path.name == which and (folder / which).is_dir()) or path.resolve().parent == folder.resolve()

    def locate(self, which: str) -> StartingPoint:
        """Finds the checkpoint or the file of weights that the user chose."""
        if which in ("best", "latest"):
            return StartingPoint(which, self._store.locate(checkpoint_name(which)))
        # A checkpoint of this run takes precedence over a file with the same name in the working directory.
        path = Path(which)
        is_own = path.name == which and ((self._store.folder / which).is_dir() or not path.exists())
        return StartingPoint(which, self._store.locate(path) if is_own else follow_link(path))

    def load_weights(self, trainer: BaseTrainer, start: StartingPoint) -> None:
        """Loads the weights of all networks from a checkpoint or a file.

        Raises:
            CheckpointError: the weights do not fit the networks, or can't be read.
        """
        path = start.path
        saved_at: dict[str, Any] = {}
        if path.is_dir():
            info = self._store.load(path, owners=(), map_location="cpu")
            saved_at = {"epoch": info.epoch, "step": info.step, "score": info.score}
        trainer.start_is_unsaved = True
        for suffix, model in trainer.models.items():
            owner = section_name("model", suffix)
            weights = load_weights(path, owner=owner, map_location=trainer.state_device)
            state = ModuleState(model)
            try:
                state.load_state_dict(weights)
            except RuntimeError as error:
                fitting = [name for name, other in trainer.models.items() if not ModuleState(other).compare(weights)]
                swapped = f"the weights fit [{section_name('model', fitting[0])}]: swap the suffixes" if fitting else ""
                message = f"the weights in {path} do not fit [{owner}]"
                raise mismatch_error(message, error, state.compare(weights), remedy=swapped or _OTHER_MODEL) from error
            complete_norms(model)
        get_logger().info("weights are loaded", asked_for=start.asked_for, checkpoint=str(path), **saved_at)


def checkpoint_name(name: str) -> Literal["latest", "best"] | Path:
    """Returns a name or a path in the form that `CheckpointStore` takes."""
    return name if name in ("latest", "best") else Path(name)  # type: ignore[return-value]
