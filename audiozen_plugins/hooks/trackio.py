"""Records a run with trackio."""

from __future__ import annotations

import contextlib
import io
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from audiozen_core.errors import MissingExtraError
from audiozen_core.hooks.ending import RunEnding
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.results.samples import Sample
from audiozen_plugins.hooks.tracker import Tracker


class Trackio(Tracker):
    """Records the config, scalars, samples and checkpoints of a run with trackio; `trackio show` shows them.

    trackio writes to a local SQLite file. The environment variable `TRACKIO_DIR` names its folder; the default is
    `~/.cache/huggingface/trackio`. If a resumed run repeats a step, the record has two points for this step.

    Args:
        project: the name of the project.
        group: the group of the record in the project.

    Raises:
        MissingExtraError: trackio is not installed.
    """

    name: ClassVar[str] = "trackio"
    title: ClassVar[str] = "trackio"

    def __init__(self, project: str = "audiozen", group: str | None = None) -> None:
        super().__init__()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                import trackio  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("trackio", extra="trackio", needed_by="the hook trackio") from error
        self.project = project
        self.group = group
        self._run: Any = None
        self._step = 0

    def open(self, trainer: Trainer, record: str | None, config: Mapping[str, Any]) -> str:
        """Opens the record of a run."""
        import trackio

        # trackio finds a run by its name, so two runs must not have the same name.
        name = record or f"{trainer.experiment}-{secrets.token_hex(3)}"
        with contextlib.redirect_stdout(io.StringIO()):
            self._run = trackio.init(
                project=self.project,
                name=name,
                group=self.group,
                config=dict(config),
                resume="must" if record else "never",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        self._step = trainer.progress.step
        return name

    def log_scalars(self, scalars: Mapping[str, float], step: int, epoch: int) -> None:
        """Records scalars."""
        self._step = step
        self._run.log({**scalars, "epoch": epoch}, step=step)

    def log_text(self, file: str, text: str) -> None:
        """Records a text."""
        import trackio

        self._run.log({file: trackio.Markdown(f"```\n{text}\n```")}, step=self._step)

    def log_note(self, name: str, value: str) -> None:
        """Records a short text."""
        self._run.log({name: value}, step=self._step)

    def log_sample(self, sample: Sample, audio: Mapping[str, Path], sheet: Path) -> None:
        """Records the audio and the picture."""
        import trackio

        tag = f"samples/{sample.title}"
        media: dict[str, Any] = {f"{tag}/{name}": trackio.Audio(str(path)) for name, path in audio.items()}
        self._run.log({**media, tag: trackio.Image(str(sheet))}, step=sample.step)

    def close(self, ending: RunEnding) -> None:
        """Ends the record."""
        import trackio

        with contextlib.redirect_stdout(io.StringIO()):
            trackio.finish()
