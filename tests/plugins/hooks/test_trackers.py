"""Trackers: the contract with a small one, and the real packages, where they are installed (`make trackers`)."""

import json
import os
import random
import socket
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from audiozen_core.errors import HookError, MissingExtraError, RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.testing.tiny import TinyExperiment
from audiozen_plugins.hooks.mlflow import MLflow
from audiozen_plugins.hooks.trackio import Trackio
from audiozen_plugins.hooks.wandb import WeightsAndBiases
from tests.plugins.hooks.json_tracker import JsonTracker
from tests.tiny_training import make_loader, make_trainer, state_of, weights_of

REAL = {"mlflow": MLflow, "wandb": WeightsAndBiases, "trackio": Trackio}


def with_samples(folder, path, /, **args):
    """Returns a tiny experiment with a tracker, and with samples of one file."""
    folder.mkdir(exist_ok=True)
    tiny = TinyExperiment(folder)
    tiny.values["hooks"] = [hook for hook in tiny.values["hooks"] if hook["path"] != "samples"]
    tiny.set("trainer", log_interval=1)
    return tiny.add_hook("samples", count=1).add_hook(path, **args)


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """Returns the record of a run that was resumed and tested, and the folder of the run."""
    folder = tmp_path_factory.mktemp("tracked")
    tiny = with_samples(folder / "exp", "tests.plugins.hooks.json_tracker.JsonTracker", folder=str(folder))
    tiny.set("trainer", max_epochs=1).run("train")
    run = tiny.set("trainer", max_epochs=2).run("train", "test", resume=True).folder
    (record,) = folder.glob("*.jsonl")
    return lines(record), run


def of(record, what):
    return [line for line in record if line["what"] == what]


def test_a_resumed_run_and_its_test_continue_the_same_record(tracked):
    record, run = tracked
    assert [line["continued"] for line in of(record, "open")] == [False, True, True]
    assert json.loads((run / "trackers/json.json").read_text()) == {"id": "record_0"}


def test_a_tracker_gets_every_record_of_metrics_jsonl(tracked):
    record, run = tracked
    wanted = [
        {k: v for k, v in line.items() if k not in ("time", "checkpoint")} for line in lines(run / "metrics.jsonl")
    ]
    got = [{"epoch": line["epoch"], "step": line["step"], **line["scalars"]} for line in of(record, "scalars")]
    assert got == wanted
    assert len(got) > 5


def test_a_tracker_gets_the_config_by_keys_and_as_text(tracked):
    record, _ = tracked
    assert [line["config"]["trainer.args.max_epochs"] for line in of(record, "open")] == [1, 2, 2]
    texts = of(record, "text")
    assert [line["file"] for line in texts] == ["config.toml", "config_step_0000002.toml", "config.toml"]
    assert "max_epochs = 2" in texts[1]["text"]


def test_a_tracker_gets_signals_of_the_data_set_once(tracked):
    record, _ = tracked
    assert [(line["epoch"], line["audio"]) for line in of(record, "sample")] == [
        (1, ["noisy", "enhanced", "clean"]),
        (2, ["noisy", "enhanced", "clean"]),  # the process is another one
    ]


def test_a_tracker_gets_the_names_of_checkpoints_and_the_ending(tracked):
    record, run = tracked
    best = (run / "checkpoints/best").readlink().name
    notes = [(line["name"], line["value"]) for line in of(record, "note")]
    assert [value for name, value in notes if name == "latest_checkpoint"] == ["epoch_0001", "epoch_0002"]
    assert [value for name, value in notes if name == "best_checkpoint"][-1] == best
    assert ("evaluated_checkpoint", f"best_{best}") in notes
    assert ("ending", "finished: max_epochs = 2 is reached") in notes
    assert [line["kind"] for line in of(record, "close")] == ["finished"] * 3


class FailsIn:
    phase = "precision"

    def __init__(self, epoch):
        self.epoch = epoch

    @hookimpl
    def on_epoch_end(self, epoch):
        if epoch == self.epoch:
            raise RunError("the disk is on fire")


def test_the_record_of_a_failed_run_says_so(tmp_path):
    trainer = make_trainer(tmp_path, max_epochs=2, hooks={"json": JsonTracker(tmp_path), "fails": FailsIn(1)})
    with pytest.raises(RunError, match="on fire"):
        trainer.train(make_loader())
    *_, note, close = lines(tmp_path / "record_0.jsonl")
    assert (note["name"], "disk is on fire" in note["value"], close["kind"]) == ("ending", True, "failed")


@pytest.mark.parametrize("fails_at", ["scalars", "note", "text", "close"])
def test_a_tracker_that_fails_does_not_stop_the_training(tmp_path, capsys, fails_at):
    trainer = make_trainer(tmp_path, max_epochs=2, log_interval=1, hooks={"json": JsonTracker(tmp_path, fails_at)})
    trainer.train(make_loader())
    assert trainer.progress.epoch == 2
    told = capsys.readouterr().err.count("the JSON tracker has failed")
    # Once for each epoch, in which it is tried again.
    assert told == {"scalars": 2, "note": 1, "text": 1, "close": 1}[fails_at]


def test_a_tracker_that_can_not_be_opened_is_an_error_at_the_start(tmp_path):
    trainer = make_trainer(tmp_path, hooks={"json": JsonTracker(tmp_path, "open")})
    with pytest.raises((RunError, HookError), match=r"the JSON tracker can't record the run: the server is away"):
        trainer.train(make_loader())
    assert trainer.progress.step == 0


class DrawsNumbers(JsonTracker):
    """Draws random numbers, as MLflow does for the names of its runs."""

    def _add(self, what, **values):
        random.random()
        torch.rand(1)
        super()._add(what, **values)


def test_a_tracker_does_not_change_the_random_numbers_of_the_training(tmp_path):
    plain = make_trainer(tmp_path / "a", max_epochs=2, log_interval=1)
    plain.train(make_loader())
    with_hook = make_trainer(tmp_path / "b", max_epochs=2, log_interval=1, hooks={"json": DrawsNumbers(tmp_path)})
    with_hook.train(make_loader())
    assert torch.equal(weights_of(plain), weights_of(with_hook))
    # The negative control: the network has dropout, so other random numbers give other weights.
    control = make_trainer(tmp_path / "c", max_epochs=2, hooks={"draws": Draws()})
    control.train(make_loader())
    assert not torch.equal(weights_of(plain), weights_of(control))


class Draws:
    @hookimpl
    def on_training_step_end(self):
        torch.rand(1)


@pytest.mark.parametrize("name", REAL)
def test_a_missing_package_is_an_error_that_names_the_extra(monkeypatch, name):
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(MissingExtraError) as error:
        REAL[name]()
    assert error.value.remedy == f"pip install 'audiozen[{name}]'"


# ------------------------------------------------------------------------------------------ the real packages


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Lets trackers write to a temporary folder only, and forbids connections to other machines."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_API_KEY", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    real = socket.socket.connect

    def connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(("127.", "::1")):
            raise AssertionError(f"a connection to {address}")
        return real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


def resumed_and_tested(folder, name, **args):
    tiny = with_samples(folder / "exp", name, **args)
    tiny.set("trainer", max_epochs=1).run("train")
    return tiny.set("trainer", max_epochs=2).run("train", "test", resume=True).folder


@pytest.mark.slow
def test_mlflow_has_one_record_with_everything(tmp_path, offline):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    run = resumed_and_tested(tmp_path, "mlflow", experiment="denoise", tags={"team": "audio"})
    client = MlflowClient(f"sqlite:///{run.parent / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("denoise").experiment_id])
    assert found.info.run_id == json.loads((run / "trackers/mlflow.json").read_text())["id"]
    assert (found.info.status, found.info.run_name) == ("FINISHED", "tiny")
    assert found.data.params["trainer.args.max_epochs"] == "1"  # MLflow never changes a parameter
    assert found.data.tags["team"] == "audio"
    assert found.data.tags["best_checkpoint"] == "epoch_0002"
    steps = [metric.step for metric in client.get_metric_history(found.info.run_id, "step/loss")]
    assert steps == [1, 2, 3, 4]
    assert "test/si_sdr" in found.data.metrics
    config = client.download_artifacts(found.info.run_id, "config_step_0000002.toml", str(tmp_path))
    assert "max_epochs = 2" in Path(config).read_text()
    (epoch,) = [one for one in client.list_artifacts(found.info.run_id, "samples") if "epoch_0002" in one.path]
    sample = client.list_artifacts(found.info.run_id, f"{epoch.path}/0")[0].path
    files = [one.path.rpartition("/")[2] for one in client.list_artifacts(found.info.run_id, sample)]
    assert files == ["enhanced.flac", "spectrograms.png"]


@pytest.mark.slow
def test_mlflow_says_why_a_folder_is_no_longer_a_store(tmp_path, offline):
    pytest.importorskip("mlflow")
    trainer = make_trainer(tmp_path, hooks={"mlflow": MLflow(tracking_uri=f"file://{tmp_path}/mlruns")})
    with pytest.raises((RunError, HookError), match="MLflow can't record the run"):
        trainer.train(make_loader())


def leveldb_records(content):
    """Yields the records of a log of LevelDB, which is in blocks of 32 KiB, after 7 bytes of wandb's own."""
    place, parts = 7, b""
    while place + 7 <= len(content):
        if (rest := -place % 32768) < 7:
            place += rest
        size, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        parts += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or its last part
            yield parts
            parts = b""


@pytest.mark.slow
def test_wandb_has_one_id_in_all_parts_of_an_offline_run(tmp_path, offline):
    wandb = pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    run = resumed_and_tested(tmp_path, "wandb", project="denoise", tags=["small"])
    identity = json.loads((run / "trackers/wandb.json").read_text())["id"]
    files = sorted((run / "wandb").glob("offline-run-*/*.wandb"))
    assert {path.name for path in files} == {f"run-{identity}.wandb"}
    points, exits, notes, ids = [], [], {}, set()
    for file in files:
        for data in leveldb_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                ids.add((record.run.run_id, record.run.project, record.run.display_name, *record.run.tags))
            if kind == "history":
                point = {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
                points.append(point)
            if kind == "exit":
                exits.append(record.exit.exit_code)
            if kind == "summary":
                notes |= {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.summary.update}
    assert ids == {(identity, "denoise", "tiny", "small")}
    assert [point["step"] for point in points if "step/loss" in point] == [1, 2, 3, 4]
    assert any("test/si_sdr" in point for point in points)
    kinds = {name: value for point in points for name, value in point.items() if name.endswith("/_type")}
    assert sorted(kinds.values()) == ["audio-file"] * 3 + ["image-file"]
    assert exits == [0, 0, 0]
    assert notes["best_checkpoint"] == "epoch_0002"
    assert notes["ending"] == "finished"
    assert list((run / "wandb").glob("offline-run-*/files/config.toml"))
    assert wandb.run is None


@pytest.mark.slow
def test_trackio_has_one_record_with_everything(tmp_path, offline):
    pytest.importorskip("trackio")
    folder = tmp_path / "trackio"
    run = resumed_and_tested_in_a_process(tmp_path, folder)
    name = json.loads((run / "trackers/trackio.json").read_text())["id"]
    (database,) = folder.glob("denoise*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("select run_name, run_id, step, metrics from metrics order by id").fetchall()
    assert {row[0] for row in rows} == {name}
    assert len({row[1] for row in rows}) == 1
    records = [(step, json.loads(metrics)) for _, _, step, metrics in rows]
    assert [step for step, metrics in records if "step/loss" in metrics] == [1, 2, 3, 4]
    assert any("test/si_sdr" in metrics for _, metrics in records)
    kinds = {v["_type"] for _, metrics in records for v in metrics.values() if isinstance(v, dict) and "_type" in v}
    assert {"trackio.audio", "trackio.image"} <= kinds
    assert any(metrics.get("best_checkpoint") == "epoch_0002" for _, metrics in records)
    assert records[-1][1]["ending"] == "finished"


def resumed_and_tested_in_a_process(folder, trackio_dir):
    """Runs in another process, because trackio reads `TRACKIO_DIR` when it is imported."""
    code = (
        "from pathlib import Path; from tests.plugins.hooks.test_trackers import resumed_and_tested\n"
        f"print(resumed_and_tested(Path({str(folder)!r}), 'trackio', project='denoise'))"
    )
    environment = {**os.environ, "TRACKIO_DIR": str(trackio_dir)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_a_real_tracker_does_not_change_the_training(tmp_path, offline, name):
    pytest.importorskip(name)
    plain = make_trainer(tmp_path / "a", max_epochs=2, log_interval=1)
    plain.train(make_loader(), [make_loader()])
    tracked = make_trainer(tmp_path / "b", max_epochs=2, log_interval=1, hooks={name: REAL[name]()})
    tracked.train(make_loader(), [make_loader()])
    assert torch.equal(weights_of(plain), weights_of(tracked))
    assert state_of(plain)["rng"].keys() == state_of(tracked)["rng"].keys()
