"""Small experiments are written into a file, and its rows are compared with `metrics.jsonl`."""

import json
import re
import sqlite3
from pathlib import Path

import pytest
from audiozen import AudioZenError, hookimpl
from audiozen.testing import HookRecorder, TinyExperiment
from click.testing import CliRunner

from audiozen_plugin_sqlite.command import command


def query(outcome, text, *values):
    with sqlite3.connect(outcome.folder.parent / "runs.sqlite") as database:
        return database.execute(text, values).fetchall()


def records(outcome):
    """Returns epoch, step, checkpoint and scalars of each record, in order."""
    rows = query(
        outcome,
        "SELECT records.id, records.epoch, records.step, checkpoint, name, value FROM scalars "
        "JOIN records ON record = records.id JOIN runs ON run = runs.id WHERE folder = ? ORDER BY records.id",
        outcome.folder.name,
    )
    found = {}
    for number, epoch, step, checkpoint, name, value in rows:
        found.setdefault(number, (epoch, step, checkpoint, {}))[-1][name] = value
    return list(found.values())


def lines(outcome):
    """Returns the same from `metrics.jsonl`."""
    read = [json.loads(line) for line in (outcome.folder / "metrics.jsonl").read_text().splitlines()]
    head = ("epoch", "step", "checkpoint")
    scalars = [{name: value for name, value in line.items() if name not in (*head, "time")} for line in read]
    return [(*map(line.get, head), values) for line, values in zip(read, scalars, strict=True)]


def state(outcome):
    """Returns status, epoch, step, best epoch and best score of a run."""
    text = "SELECT status, epoch, step, best_epoch, best_score FROM runs WHERE folder = ?"
    return query(outcome, text, outcome.folder.name)[0]


def experiment_in(folder, **args):
    """Returns an experiment of two steps in each epoch that records every step."""
    folder.mkdir(exist_ok=True)
    experiment = TinyExperiment(folder).set("trainer", max_epochs=3, log_interval=1)
    experiment.set("model", "torch.nn.Conv1d", in_channels=65, out_channels=65, kernel_size=1)
    return experiment.add_hook("sqlite", **args)


class FailsOnce(HookRecorder):
    @hookimpl
    def on_optimizer_step_end(self, step):
        if step == 4:
            raise ValueError("no")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two runs in one file: the second one has a higher learning rate, and was tested."""
    experiment = experiment_in(tmp_path_factory.mktemp("sqlite") / "tiny")
    experiment.values["meta"]["id"] = "slow"
    slow = experiment.set("optimizer", lr=1e-9).run("train")
    experiment.values["meta"]["id"] = "fast"
    fast = experiment.set("optimizer", lr=1e-2).run("train", "test")
    return slow, fast


def test_rows_are_those_of_metrics_jsonl(finished):
    """Six steps, three epochs and, in the second run, a test. Other hooks may have records of their own."""
    for outcome, count in zip(finished, (9, 10), strict=True):
        assert records(outcome) == lines(outcome)
        assert len(records(outcome)) >= count


def test_runs_have_the_best_score_and_the_config(finished):
    for outcome, rate in zip(finished, (1e-9, 1e-2), strict=True):
        scores = outcome.metrics("validate/score")
        assert state(outcome) == ("finished", 3, 6, 1 + scores.index(max(scores)), max(scores))
        text = "SELECT mode, toml FROM configs JOIN runs ON run = runs.id WHERE folder = ? ORDER BY time"
        configs = query(outcome, text, outcome.folder.name)
        assert [mode for mode, _ in configs] == ["train", "test"][: len(configs)]
        assert f"lr = {rate}" in configs[0][1]


def test_views_separate_the_training_from_the_evaluation_of_checkpoints(finished):
    _, fast = finished
    results = query(fast, "SELECT experiment, checkpoint, value FROM results WHERE name = 'test/si_sdr'")
    assert results == [("fast", f"best_epoch_000{state(fast)[3]}", fast.metrics("test/si_sdr")[0])]
    history = query(fast, "SELECT value FROM history WHERE name = 'validate/score' AND folder = 'fast' ORDER BY epoch")
    assert [value for (value,) in history] == fast.metrics("validate/score")


def test_a_number_that_is_not_finite_is_null(tmp_path):
    class Adds(HookRecorder):
        @hookimpl
        def epoch_scalars(self):
            return {"odd": float("nan")}

    outcome = experiment_in(tmp_path / "tiny").set("trainer", max_epochs=1).run("train", hooks=Adds())
    assert query(outcome, "SELECT value FROM history WHERE name = 'train/odd'") == [(None,)]
    assert records(outcome) == lines(outcome)


def test_a_resumed_run_has_no_row_twice(tmp_path):
    """The run fails in the second epoch, after the only checkpoint. It is resumed without the hook that failed."""
    watch = FailsOnce()
    experiment = experiment_in(tmp_path / "tiny")
    with pytest.raises(AudioZenError):
        experiment.run("train", hooks=watch)
    trainer = watch.calls_of("on_run_start")[0]["trainer"]
    with sqlite3.connect(trainer.folder.parent / "runs.sqlite") as database:
        assert database.execute("SELECT status, epoch, step FROM runs").fetchall() == [("failed", 1, 4)]
        [(reason,)] = database.execute("SELECT reason FROM runs").fetchall()
        assert "ValueError: no" in reason
        assert "help:" not in reason
        before = database.execute("SELECT step FROM history WHERE name = 'step/loss'").fetchall()
    assert (3,) in before
    outcome = experiment.run("train", resume=True)
    assert records(outcome) == lines(outcome)
    assert [step for _, step, _, values in records(outcome) if "step/loss" in values] == [1, 2, 3, 4, 5, 6]
    assert state(outcome)[:3] == ("finished", 3, 6)
    assert query(outcome, "SELECT reason FROM runs") == [("max_epochs = 3 is reached",)]


def test_training_that_a_hook_stops_is_not_finished(tmp_path):
    class Stops(HookRecorder):
        @hookimpl
        def stop_reason(self, trainer):
            return "enough" if trainer.progress.epoch == 1 else None

    outcome = experiment_in(tmp_path / "tiny").run("train", hooks=Stops())
    assert query(outcome, "SELECT status, reason, epoch FROM runs") == [("stopped", "enough", 1)]


def test_a_run_that_returns_to_a_checkpoint_has_no_row_twice(tmp_path):
    experiment = experiment_in(tmp_path / "tiny")
    experiment.folder.joinpath("broken.py").write_text(
        "from audiozen.trainer import EnhancementTrainer\n"
        "class Trainer(EnhancementTrainer):\n"
        "    def training_step(self, batch, batch_idx):\n"
        "        step = super().training_step(batch, batch_idx)\n"
        "        return {'loss': step['loss'] * float('nan')} if self.progress.step == 3 else step\n"
    )
    experiment.values["trainer"]["path"] = "broken.Trainer"
    outcome = experiment.set("trainer", on_nonfinite="rollback").run("train")
    assert outcome.hooks.names.count("on_rollback") == 1
    assert records(outcome) == lines(outcome)


def test_training_goes_on_while_the_file_cannot_be_written(tmp_path, capsys):
    class Locks(HookRecorder):
        @hookimpl
        def on_epoch_start(self, trainer, epoch):
            if epoch == 1:
                self.other = sqlite3.connect(trainer.folder.parent / "runs.sqlite", isolation_level=None)
                self.other.execute("BEGIN IMMEDIATE")
            if epoch == 3:
                self.during = len(self.other.execute("SELECT * FROM records").fetchall())
                self.other.execute("ROLLBACK")

    locks = Locks()
    outcome = experiment_in(tmp_path / "tiny", timeout=0.0).run("train", hooks=locks)
    assert locks.during == 0
    assert records(outcome) == lines(outcome)
    assert state(outcome)[:3] == ("finished", 3, 6)
    log = capsys.readouterr().err
    assert log.count("the file can't be written") == log.count("the file can be written again") == 1


def test_an_evaluation_does_not_change_the_row_of_the_training(tmp_path):
    experiment = experiment_in(tmp_path / "tiny")
    outcome = experiment.run("train")
    before = query(outcome, "SELECT * FROM runs")
    experiment.run("test", ckpt_path=str(outcome.folder / "checkpoints" / "epoch_0001"))
    assert query(outcome, "SELECT * FROM runs") == before
    assert records(outcome)[-1][:3] == (1, 2, "epoch_0001")


def test_the_hook_may_be_added_on_resume_and_the_file_may_be_anywhere(tmp_path):
    experiment = experiment_in(tmp_path / "tiny", file=str(tmp_path / "new" / "all.sqlite"))
    hook = experiment.values["hooks"].pop()
    experiment.set("trainer", max_epochs=1).run("train")
    experiment.values["hooks"].append(hook)
    experiment.set("trainer", max_epochs=2).run("train", resume=True)
    with sqlite3.connect(tmp_path / "new" / "all.sqlite") as database:
        assert database.execute("SELECT folder, epoch FROM runs").fetchall() == [("../tiny/exp/tiny", 2)]


# ------------------------------------------------------------------------------- the command


def table(*arguments):
    """Returns the table's rows, split into cells."""
    done = CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=False)
    return [re.split(r" {2,}", line.strip()) for line in done.output.splitlines() if line.strip()]


def test_command_prints_the_best_run_first(finished):
    slow, fast = finished
    heading, first, second = table(fast.folder.parent, "-s", "test/si_sdr", "-s", "train/loss")
    assert heading == [
        "run",
        "status",
        "epoch",
        "step",
        "score",
        "best",
        "at epoch",
        "updated",
        "test/si_sdr",
        "train/loss",
    ]
    assert max(fast.metrics("validate/score")) > max(slow.metrics("validate/score"))
    assert first[:5] == ["fast", "finished", "3", "6", "score"]
    assert first[5] == f"{max(fast.metrics('validate/score')):.4g}"
    assert first[-2:] == [f"{fast.metrics('test/si_sdr')[0]:.4g}", f"{fast.metrics('train/loss')[-1]:.4g}"]
    assert second[0] == "slow"
    assert second[-1] == f"{slow.metrics('train/loss')[-1]:.4g}"


def test_command_says_what_is_missing(tmp_path):
    with pytest.raises(AudioZenError, match=r"runs.sqlite` does not exist"):
        table(tmp_path)


def test_queries_in_the_readme_find_something(finished):
    readme = Path(__file__).parents[1] / "README.md"
    queries = re.findall(r"```sql\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    assert len(queries) == 3
    for text in queries:
        assert query(finished[1], text.replace("'small'", "'slow'"))
