"""What an evaluation costs, in counts: files opened, steps computed, modules imported."""

import multiprocessing
import os
import sys
from collections import Counter

import pytest

from audiozen_core.audio import files as audio_files
from audiozen_core.errors import RunError
from audiozen_core.scoring import evaluation_run, worker_pool
from audiozen_core.scoring.evaluate import evaluate
from audiozen_core.scoring.file_rating import FileRating
from tests.core.scoring.audio_folders import noise, write, write_pairs


class Constant:
    unit, higher_is_better = "", True
    needs = ("clean",)

    def __init__(self, name="one", **attributes):
        self.name = self.label = name
        for key, value in attributes.items():
            setattr(self, key, value)

    def __call__(self, estimate, reference, *, sr):
        return float(os.getpid())


@pytest.fixture
def folders(tmp_path):
    write_pairs(tmp_path)
    return tmp_path / "enhanced", tmp_path / "clean"


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """Counts the files that are opened and the steps that are computed, in all processes."""
    record = os.open(tmp_path / "record", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    opened, called = audio_files._open_bytes, FileRating.__call__

    def count_opened(path):
        os.write(record, f"open {path.parent.name}/{path.name}\n".encode())
        return opened(path)

    def count_step(self, step):
        os.write(record, f"step {step}\n".encode())
        return called(self, step)

    monkeypatch.setattr(audio_files, "_open_bytes", count_opened)
    monkeypatch.setattr(FileRating, "__call__", count_step)

    def counts(kind):
        lines = (tmp_path / "record").read_text().splitlines()
        return Counter(line.partition(" ")[2] for line in lines if line.startswith(kind))

    yield counts
    os.close(record)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_each_file_is_opened_once_and_each_metric_computed_once(folders, counted, workers):
    found = evaluate(*folders, metrics=["si_sdr", Constant("a"), Constant("b")], cache=False, num_workers=workers)
    assert [file.id for file in found.files] == ["a", "b", "c"]
    names = [f"{kind}/{name}.wav" for kind in ("enhanced", "clean") for name in "abc"]
    assert counted("open") == dict.fromkeys(names, 1)
    steps = [(index, place) for index in range(3) for place in (None, 0, 1, 2)]
    assert counted("step") == {str(step): 1 for step in steps}


def test_what_is_in_the_cache_is_read_once_and_not_rated(folders, counted, tmp_path, monkeypatch):
    options = {"metrics": ["si_sdr"], "cache": tmp_path / "cache", "num_workers": 1}
    first = evaluate(*folders, **options)
    before = counted("step")
    monkeypatch.setattr(evaluation_run, "_import_modules", lambda metrics: pytest.fail("nothing is to be computed"))
    assert evaluate(*folders, **options) == first
    assert counted("step") - before == {f"({index}, None)": 1 for index in range(3)}


@pytest.mark.skipif(not worker_pool.workers_are_copies(), reason="processes are not copies here")
def test_modules_of_metrics_are_imported_once_before_the_workers_begin(folders, tmp_path, monkeypatch):
    (tmp_path / "heavy_metric_code.py").write_text("import os\nPID = os.getpid()\n")
    monkeypatch.syspath_prepend(tmp_path)

    class Heavy(Constant):
        def __call__(self, estimate, reference, *, sr):
            import heavy_metric_code

            return float(heavy_metric_code.PID)

    def pids(**attributes):
        sys.modules.pop("heavy_metric_code", None)
        found = evaluate(*folders, metrics=[Heavy(**attributes)], cache=False, num_workers=3)
        return {file.values["one"] for file in found.files}

    assert pids(modules=("heavy_metric_code",)) == {float(os.getpid())}
    assert float(os.getpid()) not in pids(), "the negative control"
    sys.modules.pop("heavy_metric_code", None)


def test_metric_without_a_rate_ends_the_evaluation_before_others_are_computed(folders, counted):
    unfit = Constant("unfit", sample_rates=(8000,))
    with pytest.raises(RunError, match="unfit takes 8000 Hz, and no file has this rate"):
        evaluate(*folders, metrics=[Constant(), unfit], cache=False, num_workers=0)
    assert counted("step") == {"(0, None)": 1}
    for folder in folders:
        write(folder / "c.wav", noise(len(folder.name)), 8000)
    found = evaluate(*folders, metrics=[Constant(), unfit], cache=False, num_workers=0)
    assert found.mean("unfit").count == 1


def test_signals_are_resampled_once_for_all_metrics_of_a_rate(folders, monkeypatch):
    from audiozen_core.scoring import file_rating

    calls = []
    resample = file_rating.resample
    monkeypatch.setattr(file_rating, "resample", lambda wave, *rates: calls.append(rates) or resample(wave, *rates))
    metrics = [Constant(name, sample_rates=(8000,)) for name in ("a", "b")]
    evaluate(*folders, metrics=metrics, cache=False, num_workers=0, resample=True)
    assert calls == [(16000, 8000)] * 6  # two signals of three files


def test_steps_that_a_result_adds_run_in_the_worker_of_its_job():
    def then(step, result):
        return [(step[0], step[1] + 1)] if step[1] < 2 else []

    for workers in (0, 2):
        results = dict(worker_pool.run_jobs(_where, [[(0, 0)], [(1, 0)], [(2, 0)]], workers=workers, then=then))
        assert results.keys() == {(job, number) for job in range(3) for number in range(3)}
        for job in range(3):
            assert len({results[job, number] for number in range(3)}) == 1


def _where(step):
    return os.getpid()


@pytest.mark.skipif(not worker_pool.workers_are_copies(), reason="processes are not copies here")
def test_error_ends_the_workers_even_while_its_traceback_is_kept(folders, monkeypatch):
    def fails(results, **options):
        next(iter(results))
        assert set(multiprocessing.active_children()) > before, "the workers are running"
        raise KeyboardInterrupt
        yield

    before = set(multiprocessing.active_children())
    monkeypatch.setattr(evaluation_run, "with_progress", fails)
    with pytest.raises(KeyboardInterrupt) as kept:
        evaluate(*folders, metrics=[Constant()], cache=False, num_workers=2)
    assert set(multiprocessing.active_children()) == before
    assert kept.tb  # the traceback refers to the results until here
