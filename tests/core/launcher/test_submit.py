"""Submitting runs, without a cluster: submitit's local executor starts them on this machine."""

import os
import signal
import sys
from pathlib import Path

import pytest

from audiozen_core.cli.main import main
from audiozen_core.config.load import load_config
from audiozen_core.errors import ConfigError, RunError
from audiozen_core.experiment.config_diff import compare_configs
from audiozen_core.experiment.run_options import check_requeue_options
from audiozen_core.launcher.follow import _State
from audiozen_core.launcher.requeue import times_queued_again
from audiozen_core.launcher.settings import Launcher, check_launcher
from audiozen_core.launcher.submit import _environment_without_job, _parameters, submit
from audiozen_core.testing.tiny import TinyExperiment
from tests.test_docs import marked

pytest.importorskip("submitit")


@pytest.mark.slow
def test_submitted_run_is_audiozen_itself_and_writes_its_output_to_the_log(tmp_path):
    file = TinyExperiment(tmp_path).write()
    (job,) = submit([["run", str(file)]], "tiny", tmp_path / "slurm", Launcher(), cluster="local")
    job._process.wait()
    output = job.paths.stdout.read_text()
    assert "training is over" in output
    assert list((tmp_path / "exp/tiny/checkpoints").glob("epoch_*"))
    # The run has replaced submitit's process, which would have pickled a result.
    assert [path.suffix for path in (tmp_path / "slurm").iterdir() if "result" in path.name] == []


def test_settings_become_options_of_sbatch(tmp_path):
    submitit = pytest.importorskip("submitit.slurm.slurm")
    settings = Launcher(
        partition="gpu",
        time="1-00:00:00",
        nodes=2,
        gpus_per_node=4,
        cpus_per_task=8,
        mem="64G",
        account="speech",
        stop_before_limit=300,
        parallel=3,
        setup=["module load cuda"],
        sbatch={"constraint": "a100", "mail-type": "END", "exclusive": True, "qos": "long"},
    )
    text = submitit._make_sbatch_string("COMMAND", tmp_path, map_count=5, **_parameters("name", settings))
    options = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    expected = {
        *("job-name=name", "partition=gpu", "time=1-00:00:00", "nodes=2", "gpus-per-node=4", "ntasks-per-node=4"),
        *("cpus-per-task=8", "mem=64G", "account=speech", "signal=TERM@300", "requeue", "open-mode=append"),
        *("constraint=a100", "mail-type=END", "exclusive", "qos=long", "array=0-4%3"),
    }
    assert {option for option in options if not option.startswith(("output", "error"))} == expected
    assert "module load cuda" in text
    (srun,) = [line for line in text.splitlines() if line.endswith("COMMAND")]
    assert "--kill-on-bad-exit=1 --cpus-per-task=8" in srun


def test_what_is_not_set_is_left_to_the_cluster(tmp_path):
    submitit = pytest.importorskip("submitit.slurm.slurm")
    text = submitit._make_sbatch_string("COMMAND", tmp_path, **_parameters("name", Launcher()))
    options = [line.removeprefix("#SBATCH --").partition("=")[0] for line in text.splitlines() if "#SBATCH" in line]
    ours = {"error", "job-name", "nodes", "ntasks-per-node", "open-mode", "output", "requeue", "signal"}
    assert set(options) == ours


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Launcher(time="2:00"), "`time` of [launcher] is 2:00"),
        (Launcher(time="1:00:00", stop_before_limit=3600), "3600 seconds before"),
        (Launcher(sbatch={"signal": "USR1@60"}), "`signal`"),
        (Launcher(sbatch={"nice": [1]}), "`nice` of [launcher.sbatch]"),
        (Launcher(sbatch={"open_mode": "truncate", "array": "0-3"}), "`array`, `open-mode`"),
    ],
)
def test_settings_that_would_break_the_run_are_refused(settings, said):
    with pytest.raises(RunError) as error:
        check_launcher(settings)
    assert said in error.value.message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('tiem = "4:00:00"', "did you mean `time`"),
        ('time = "four hours"', "it must match"),
        ("time = 04:00:00", "must be a string"),
        ("nodes = 0", "must be at least 1"),
    ],
)
def test_mistakes_in_the_section_are_found_where_they_are(tmp_path, line, said):
    file = TinyExperiment(tmp_path).write()
    file.write_text(f"{file.read_text()}\n[launcher]\n{line}\n")
    with pytest.raises(ConfigError) as error:
        _ = load_config(file).config
    assert said in str(error.value)


def test_section_of_the_page_is_accepted(tmp_path, repository):
    file = TinyExperiment(tmp_path).write()
    file.write_text(f"{file.read_text()}\n{marked(repository / 'docs/slurm.md', 'addition to exp.toml')}")
    settings = load_config(file).config.launcher
    check_launcher(settings)
    assert (settings.processes_per_node, settings.sbatch["constraint"]) == (4, "a100")


def test_section_does_not_affect_training():
    (change,) = compare_configs('[launcher]\ntime = "1:00"', '[launcher]\ntime = "2:00"', lambda section, path: None)
    assert not change.affects_training


def test_without_slurm_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="Slurm is not installed on this machine: `sbatch`"):
        submit([["run", "a.toml"]], "a", tmp_path / "slurm", Launcher())
    assert not (tmp_path / "slurm").exists()


def test_job_in_a_job_does_not_get_its_variables(monkeypatch):
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "100")
    monkeypatch.setenv("RANK", "1")
    with _environment_without_job():
        assert os.environ["SLURM_CONF"] == "/etc/slurm.conf"
        assert {"SLURM_MEM_PER_CPU", "RANK"}.isdisjoint(os.environ)
    assert (os.environ["SLURM_MEM_PER_CPU"], os.environ["RANK"]) == ("100", "1")


def test_requeue_outside_of_a_job_is_refused(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(RunError, match="does not run in a Slurm job"):
        times_queued_again()


def test_complete_run_is_not_ended_by_a_late_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(sys, "argv", ["audiozen", "run", str(TinyExperiment(tmp_path).write()), "--requeue"])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as stop:
            main()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not stop.value.code


def test_checkpoint_to_which_each_start_would_go_back_is_refused():
    with pytest.raises(RunError, match="go back"):
        check_requeue_options(["train", "test"], resume=True, ckpt_path="exp/a/checkpoints/epoch_0003")
    with pytest.raises(RunError, match="go back"):
        check_requeue_options(["finetune"], resume=True, ckpt_path="best")
    # A finetuning that is started again continues from its own checkpoint, and an evaluation starts again.
    check_requeue_options(["finetune"], resume=True, ckpt_path="exp/other/checkpoints/best")
    check_requeue_options(["test"], resume=False, ckpt_path="best")


@pytest.mark.parametrize(
    ("state", "status", "code"),
    [("COMPLETED", 0, 0), ("FAILED", 2 << 8, 2), ("FAILED", 9, 137), ("CANCELLED", 0, 1), ("TIMEOUT", 0, 1)],
)
def test_exit_code_follows_from_the_state_of_the_job(state, status, code):
    assert _State(state, status).exit_code == code


def test_runs_that_can_not_share_an_array_are_refused(tmp_path, monkeypatch, audiozen_run):
    tiny = TinyExperiment(tmp_path)
    tiny.write()
    Path(tmp_path / "other.toml").write_text('extends = "tiny.toml"\n[launcher]\nnodes = 2\n')
    Path(tmp_path / "same.toml").write_text('extends = "tiny.toml"\n[meta]\nid = "tiny"\n')
    monkeypatch.chdir(tmp_path)
    assert "different settings in [launcher]" in audiozen_run("tiny.toml", "other.toml", "--launcher", "slurm")
    assert "the same folder" in audiozen_run("tiny.toml", "same.toml", "--launcher", "slurm")
    assert "need --launcher" in audiozen_run("tiny.toml", "other.toml")
    assert "need --launcher" in audiozen_run("tiny.toml", "--follow")
    assert "set the number of processes and machines" in audiozen_run(
        "tiny.toml", "--launcher", "slurm", "--nproc-per-node", "2"
    )
    for option in (["--seeds", "2"], ["--requeue"]):
        assert "a TOML file for each seed" in audiozen_run("tiny.toml", "--launcher", "slurm", *option)
    tiny.run("train")
    assert "already contains a run" in audiozen_run("tiny.toml", "--launcher", "slurm")


@pytest.fixture
def audiozen_run(monkeypatch, capsys):
    """Returns a function that calls `audiozen run`, which fails, and returns what it says."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["audiozen", "run", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        return capsys.readouterr().err

    return call
