"""Submitting runs to a real Slurm: arrays, following, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from audiozen_core.testing.tiny import TinyExperiment
from tests.slurm.cluster import missing, wait_until
from tests.slurm.slow_run import SlowRun, audiozen

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing()), pytest.mark.no_cover]


@pytest.fixture
def project(tmp_path):
    """Returns a folder with three TOML files that extend a fourth."""
    tiny = TinyExperiment(tmp_path)
    tiny.values["launcher"] = {"parallel": 2, "time": "0:10:00", "sbatch": {"comment": "three seeds"}}
    tiny.write()
    for seed in range(3):
        (tmp_path / f"seed_{seed}.toml").write_text(f'extends = "tiny.toml"\n[meta]\nseed = {seed}\n')
    return tmp_path


def test_several_files_are_one_array_whose_output_is_followed(cluster, project):
    files = [f"seed_{seed}.toml" for seed in range(3)]
    done = audiozen(cluster, project, *files, "-M", "train", "test", "--launcher", "slurm", "--follow")
    assert done.returncode == 0, done.stderr
    jobs = [line.split()[1].rstrip(":") for line in done.stdout.splitlines() if line.startswith("job ")]
    array = jobs[0].partition("_")[0]
    assert jobs == [f"{array}_0", f"{array}_1", f"{array}_2"]
    for seed, job in enumerate(jobs):
        assert cluster.show(job)["JobState"] == "COMPLETED"
        lines = [line for line in done.stdout.splitlines() if line.startswith(f"{job} | ")]
        assert any(f"experiment seed_{seed} " in line for line in lines)
        assert list((project / f"exp/seed_{seed}/test").glob("*"))
    shown = cluster.run("squeue", "--noheader", "--states=all", "--jobs", array, "--Format=Comment:30,TimeLimit:20")
    assert set(shown.splitlines()[0].split()) == {"three", "seeds", "10:00"}


def test_exit_code_of_a_followed_job_is_that_of_the_run(cluster, project):
    for file in (project / "noisy").glob("*.wav"):
        file.unlink()
    done = audiozen(cluster, project, "tiny.toml", "--launcher", "slurm", "--follow")
    assert done.returncode == 2
    assert "error[AZ300]" in done.stdout


def test_follow_ends_with_a_job_that_is_cancelled(cluster, tmp_path):
    run = SlowRun(tmp_path / "project")
    command = [Path(sys.executable).with_name("audiozen"), "run", "run.toml", "--launcher", "slurm", "--follow"]
    following = subprocess.Popen(
        command, cwd=run.folder, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    job = following.stdout.readline().split()[1].rstrip(":")
    for line in following.stdout:
        if line.startswith("step 2"):
            break
    cluster.run("scancel", job)
    _, errors = following.communicate()
    assert following.returncode not in (0, None)
    assert "state=CANCELLED" in errors


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("launcher.partition=hihg", "sbatch: invalid partition specified: hihg"),
        ("launcher.gpus_per_node=3", "sbatch: Batch job submission failed"),
        ('+launcher.sbatch.no-such-option="x"', "sbatch: unrecognized option"),
        ('+launcher.sbatch.begin="someday"', "sbatch: "),
    ],
)
def test_what_slurm_refuses_is_an_error_with_its_own_words_and_leaves_nothing(cluster, project, setting, said):
    before = sorted(project.rglob("*"))
    done = audiozen(cluster, project, "tiny.toml", "--launcher", "slurm", "--set", setting)
    assert done.returncode == 2
    assert "Slurm has refused the job" in done.stderr
    assert said in done.stderr
    assert sorted(project.rglob("*")) == before


def test_gpus_are_given_to_the_run(cluster, tmp_path):
    run = SlowRun(tmp_path / "project")
    with (run.folder / "reports.py").open("a") as file:
        file.write("\nimport os\nreport(f\"gpus {os.environ.get('CUDA_VISIBLE_DEVICES')}\")\n")
    run.finish()
    run.submit(cluster, "--set", "launcher.gpus_per_node=2", "--set", "launcher.cpus_per_task=2")
    cluster.wait_for(run.job, "COMPLETED", "FAILED")
    assert run.output.count("gpus 0,1") == 2  # one process for each GPU, which sees all of them
    assert cluster.show(run.job)["CPUs/Task"] == "2"


def test_process_that_is_killed_ends_the_others_at_once(cluster, tmp_path):
    run = SlowRun(tmp_path / "project")
    with (run.folder / "reports.py").open("a") as file:
        file.write("\nif os.environ.get('SLURM_PROCID') == '1':\n    report(f'process {os.getpid()}')\n")
    run.submit(cluster, "--set", "launcher.tasks_per_node=2")
    run.wait_for_steps()
    (process,) = [int(line.split()[1]) for line in run.output.splitlines() if line.startswith("process")]
    os.kill(process, signal.SIGKILL)
    assert cluster.wait_for(run.job, "FAILED")["Restarts"] == "0"


def test_run_in_a_job_that_submits_another_does_not_hand_its_variables_on(cluster, project):
    inner = f"cd {project} && {Path(sys.executable).with_name('audiozen')} run tiny.toml --launcher slurm"
    outer = cluster.submit("--ntasks=2", "--mem=100", command=f"export RANK=1 WORLD_SIZE=2; {inner}")
    cluster.wait_for(outer, "COMPLETED")
    wait_until(lambda: "training is over" in output(project), "the inner run")
    assert "hostname" in output(project)
    assert "global_rank=0(1)" in output(project)
    assert json.loads((project / "exp/tiny/metrics.jsonl").read_text().splitlines()[0])


def output(project):
    return "".join(path.read_text() for path in project.glob("exp/slurm/*.out"))
