"""The sbatch file of docs/slurm.md, as it is written there."""

from pathlib import Path

import pytest

from tests.core.checkpoint.exactness import difference
from tests.reliability.test_kill import end_of
from tests.slurm.cluster import missing, wait_until
from tests.slurm.slow_run import SlowRun
from tests.test_docs import marked

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing()), pytest.mark.no_cover]

PAGE = Path(__file__).resolve().parents[2] / "docs/slurm.md"


def submitted(cluster, folder):
    """Submits the file of the page for a new run, and returns the run, its job and its output."""
    run = SlowRun(folder)
    (folder / "run.toml").rename(folder / "exp.toml")
    (folder / "exp.sbatch").write_text(marked(PAGE, "file: exp.sbatch"))
    job = cluster.run("sbatch", "--parsable", "--chdir", str(folder), str(folder / "exp.sbatch"))
    return run, job, folder / f"exp-{job}.log"


def end(folder):
    (folder / "exp/exp").rename(folder / "exp/run")
    return end_of(folder)


def test_sbatch_file_of_the_page_trains_and_survives_a_preemption(start_cluster, tmp_path):
    cluster = start_cluster(grace=600)
    expected, job, _ = submitted(cluster, tmp_path / "uninterrupted")
    expected.finish()
    cluster.wait_for(job, "COMPLETED", "FAILED")

    run, job, log = submitted(cluster, tmp_path / "interrupted")
    wait_until(lambda: log.exists() and log.read_text().count("step") > 2, "some steps")
    other = cluster.submit("--partition=high", "--cpus-per-task=4", command="sleep 2")
    cluster.wait_for(other, "COMPLETED")
    cluster.wait_for(job, "RUNNING", restarts=1)
    run.finish()
    assert cluster.wait_for(job, "COMPLETED", "FAILED")["JobState"] == "COMPLETED", log.read_text()
    assert log.read_text().count("the job is queued again") == 1
    for one, other in zip(end(run.folder), end(expected.folder), strict=True):
        assert difference(one, other) is None
