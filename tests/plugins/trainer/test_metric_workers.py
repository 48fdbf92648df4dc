"""Metrics beside the network change neither what an evaluation finds nor what hooks see."""

import json
import os
import signal

import pytest

from audiozen_core.errors import RunError
from audiozen_core.scoring.rating_pool import PendingRow
from audiozen_core.scoring.worker_pool import Worker, workers_are_copies
from audiozen_core.trainer.evaluation import Evaluation
from tests.plugins.trainer.test_file_by_file import Norm, loader, make, results

pytestmark = pytest.mark.skipif(not workers_are_copies(), reason="processes are not copies here")


class Fails:
    name, label, unit, higher_is_better = "fails", "fails", "", True

    def __call__(self, estimate, reference, *, sr):
        if len(estimate) == 5555:
            raise ValueError("too odd")
        return 1.0


class Kills(Fails):
    process = os.getpid()

    def __call__(self, estimate, reference, *, sr):
        if os.getpid() != self.process:
            os.kill(os.getpid(), signal.SIGKILL)
        return 1.0


@pytest.fixture
def sent(monkeypatch):
    names = []
    send = Worker.send
    monkeypatch.setattr(Worker, "send", lambda self, step: names.append(step.name) or send(self, step))
    return names


@pytest.mark.parametrize("asked", [False, True])
def test_validation_and_test_find_the_same_and_hooks_see_the_same(tmp_path, monkeypatch, sent, asked):
    def everything(workers):
        folder = tmp_path / f"{workers}"
        trainer = make(folder, Norm(), metrics=["si_sdr", "stoi", "sdr"], metric_workers=workers, save_enhanced=True)
        calls = []

        def seen(mode, batch_idx, outputs, signals, **_):
            rows = [getattr(one, "row", one) for one in outputs or ()]
            assert not any(isinstance(row, PendingRow) for row in rows)
            calls.append((mode, batch_idx, repr(rows), [{k: v.sum().item() for k, v in s.items()} for s in signals]))

        monkeypatch.setattr(trainer.hooks, "on_evaluation_step_end", seen)
        monkeypatch.setattr(trainer.hooks, "uses_argument", lambda hook, argument: asked)
        monkeypatch.setattr(trainer.hooks, "uses_signals", lambda mode: True)
        validated = [(trainer.validate([loader(2, size=6)]), dict(trainer.last_scalars)) for _ in range(2)]
        tested = trainer.test([loader(size=6)])
        files = {path.name: path.read_bytes() for path in results(folder).iterdir() if path.is_file()}
        return repr((validated, tested)), files, calls

    assert everything(2) == everything(0)
    assert sent, "the negative control"


def test_scalars_and_rows_are_ordinary_after_an_evaluation(tmp_path, sent):
    trainer = make(tmp_path, Norm(), metric_workers=1)
    trainer.test([loader(size=4)])
    assert json.loads((results(tmp_path) / "scores.json").read_text())["files"] == 4
    assert sent
    assert not trainer._ratings._workers


def test_metric_that_fails_names_its_file_and_no_other(tmp_path):
    for workers in (0, 1):
        trainer = make(tmp_path / str(workers), Norm(), metrics=[Fails()], metric_workers=workers)
        with pytest.raises(RunError, match="the metric `fails` fails for `f2`") as caught:
            trainer.test([loader(size=6)])
        assert "f3" not in repr(caught.value.notes)
        assert isinstance(caught.value.__cause__, ValueError)


def test_killed_process_is_an_error_that_names_the_argument(tmp_path):
    with pytest.raises(RunError, match="died") as caught:
        make(tmp_path, Norm(), metrics=[Kills()], metric_workers=1).test([loader(size=6)])
    assert "`metric_workers = 0` in [trainer.args]" in caught.value.remedy


def test_processes_end_with_an_evaluation_that_fails(tmp_path, monkeypatch):
    trainer = make(tmp_path, Norm(), metrics=["si_sdr"], metric_workers=1)
    stopped = []
    stop = Worker.stop
    monkeypatch.setattr(Worker, "stop", lambda self: stopped.append(self) or stop(self))
    real = Evaluation.load_batch

    def broken(self, item, mode, batch_idx):
        if batch_idx == 3:
            raise RunError("broken", remedy="none")
        return real(self, item, mode, batch_idx)

    monkeypatch.setattr(Evaluation, "load_batch", broken)
    with pytest.raises(RunError, match="broken"):
        trainer.test([loader(size=6)])
    assert len(stopped) == 1
