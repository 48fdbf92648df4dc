"""Records a run with MLflow."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from audiozen_core.errors import MissingExtraError
from audiozen_core.hooks.ending import RunEnding
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.results.samples import Sample
from audiozen_plugins.hooks.tracker import Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
# The characters that MLflow refuses in the name of a metric or a parameter.
_NOT_IN_NAMES = re.compile(r"[^\w\-./ :]")
# The largest number of parameters in one call, and the largest length of a value.
_AT_ONCE, _LONGEST = 100, 6000


class MLflow(Tracker):
    """Records the config, scalars, samples and checkpoints of a run with MLflow; see docs/watch_a_training.md.

    By default, the records of all runs are in the SQLite file `mlflow.db` in the folder `save_dir`, and audio and
    pictures are in `mlflow_artifacts` next to it. To see the records, run
    `mlflow ui --backend-store-uri sqlite:///exp/mlflow.db`.

    If a resumed run records a step twice, MLflow keeps both values, and its curves show both. If the experiment has not
    changed, both values are equal, because AudioZEN repeats steps exactly.

    Args:
        tracking_uri: the address of the records, such as `http://localhost:5000`; by default the value of the
            environment variable `MLFLOW_TRACKING_URI`, or else the SQLite file.
        experiment: the name of the MLflow experiment.
        tags: further tags of the record.

    Raises:
        MissingExtraError: MLflow is not installed.
    """

    name: ClassVar[str] = "mlflow"
    title: ClassVar[str] = "MLflow"

    def __init__(
        self, tracking_uri: str | None = None, experiment: str = "audiozen", tags: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        try:
            import mlflow  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("mlflow", extra="mlflow", needed_by="the hook mlflow") from error
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.tags = dict(tags or {})
        self._client: MlflowClient | None = None
        self._run = ""

    def open(self, trainer: Trainer, record: str | None, config: Mapping[str, Any]) -> str:
        """Opens the record of a run."""
        from mlflow import MlflowClient
        from mlflow.entities import Param

        home = trainer.folder.absolute().parent
        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{home / 'mlflow.db'}"
        if uri.startswith(_SQLITE):
            home = Path(uri.removeprefix(_SQLITE)).absolute().parent
            home.mkdir(parents=True, exist_ok=True)
        self._client = client = MlflowClient(uri)
        if record:
            client.update_run(record, status="RUNNING")
            self._run = record
            return record
        found = client.get_experiment_by_name(self.experiment)
        # Without a server, MLflow would write artifacts to the folder from which the program was started.
        place = str(home / "mlflow_artifacts") if uri.startswith(_SQLITE) else None
        experiment = found.experiment_id if found else client.create_experiment(self.experiment, place)
        tags = {"audiozen.folder": str(trainer.folder), **self.tags}
        self._run = client.create_run(experiment, run_name=trainer.experiment, tags=tags).info.run_id
        params = [Param(_named(key), str(value)[:_LONGEST]) for key, value in config.items()]
        for first in range(0, len(params), _AT_ONCE):
            client.log_batch(self._run, params=params[first : first + _AT_ONCE])
        return self._run

    def log_scalars(self, scalars: Mapping[str, float], step: int, epoch: int) -> None:
        """Records scalars."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        metrics = [Metric(_named(name), value, now, step) for name, value in {**scalars, "epoch": epoch}.items()]
        self._opened_client.log_batch(self._run, metrics=metrics)

    def log_text(self, file: str, text: str) -> None:
        """Stores a text file as an artifact."""
        self._opened_client.log_text(self._run, text, file)

    def log_note(self, name: str, value: str) -> None:
        """Stores a short text as a tag."""
        self._opened_client.set_tag(self._run, name, value)

    def log_sample(self, sample: Sample, audio: Mapping[str, Path], sheet: Path) -> None:
        """Stores the files as artifacts, in the same folders as in `samples/`."""
        for path, place in [(sheet, sample.sheet), *((audio[name], sample.signals[name].path) for name in audio)]:
            self._opened_client.log_artifact(self._run, str(path), f"samples/{place.rpartition('/')[0]}")

    def close(self, ending: RunEnding) -> None:
        """Sets the status of the record."""
        self._opened_client.set_terminated(self._run, status=_STATUS[ending.kind])

    @property
    def _opened_client(self) -> MlflowClient:
        assert self._client is not None
        return self._client


def _named(name: str) -> str:
    return _NOT_IN_NAMES.sub("_", name)
