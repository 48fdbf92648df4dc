"""Records a run with Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from audiozen_core.errors import MissingExtraError
from audiozen_core.hooks.ending import RunEnding
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.results.samples import Sample
from audiozen_plugins.hooks.tracker import Tracker


class WeightsAndBiases(Tracker):
    """Records the config, scalars, samples and checkpoints of a run with Weights & Biases.

    By default, nothing leaves the machine: the records are in `wandb/` in the run folder, and `wandb sync` sends them
    later. The x axis is the scalar `step`, the number of the optimiser step. If a resumed run repeats a step, the
    record has two points for this step. After a resume, an offline run has several folders. All of them have the same
    ID, so Weights & Biases shows them as one run.

    Args:
        project: the name of the project.
        mode: `offline`, or `online` to send the records at once; by default the environment variable `WANDB_MODE`, or
            else `offline`.
        entity: the user or the team; by default, the default entity of the account.
        tags: tags of the record.
        group: the group of the record.

    Raises:
        MissingExtraError: the package `wandb` is not installed.
    """

    name: ClassVar[str] = "wandb"
    title: ClassVar[str] = "Weights & Biases"

    def __init__(
        self,
        project: str = "audiozen",
        mode: Literal["offline", "online"] | None = None,
        entity: str | None = None,
        tags: Sequence[str] = (),
        group: str | None = None,
    ) -> None:
        super().__init__()
        try:
            import wandb  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("wandb", extra="wandb", needed_by="the hook wandb") from error
        self.project = project
        self.mode = mode
        self.entity = entity
        self.tags = tuple(tags)
        self.group = group
        self._run: Any = None

    def open(self, trainer: Trainer, record: str | None, config: Mapping[str, Any]) -> str:
        """Opens the record of a run."""
        import wandb

        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            name=trainer.experiment,
            id=record,
            resume="allow" if record else None,
            group=self.group,
            tags=self.tags or None,
            dir=os.environ.get("WANDB_DIR") or str(trainer.folder),
            mode=self.mode or os.environ.get("WANDB_MODE") or "offline",
            config=dict(config),
            # Without this setting, wandb would redirect standard output, on which the progress is drawn.
            settings=wandb.Settings(console="off", silent=True),
        )
        # The step of wandb can't be used, because it must never decrease, but starts at 0 after each resume of an
        # offline run.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        identity: str = self._run.id
        return identity

    def log_scalars(self, scalars: Mapping[str, float], step: int, epoch: int) -> None:
        """Records scalars."""
        self._run.log({**scalars, "epoch": epoch, "step": step})

    def log_text(self, file: str, text: str) -> None:
        """Stores a text file among the files of the run."""
        (Path(self._run.dir) / file).write_text(text, encoding="utf-8")

    def log_note(self, name: str, value: str) -> None:
        """Stores a short text in the summary."""
        self._run.summary[name] = value

    def log_sample(self, sample: Sample, audio: Mapping[str, Path], sheet: Path) -> None:
        """Records the audio and the picture."""
        import wandb

        tag = f"samples/{sample.title}"
        media: dict[str, Any] = {f"{tag}/{name}": wandb.Audio(str(path)) for name, path in audio.items()}
        self._run.log({**media, tag: wandb.Image(str(sheet)), "epoch": sample.epoch, "step": sample.step})

    def close(self, ending: RunEnding) -> None:
        """Ends the record."""
        self._run.finish(exit_code=0 if ending.kind in ("finished", "stopped") else 1)
