"""Files are rated beside the network: same values, same order, each error for its file, and no process is left."""

import copy
import math
import os
import random
import signal
import time

import numpy as np
import pytest
import torch

from audiozen_core.errors import RunError
from audiozen_core.scoring import rating_pool
from audiozen_core.scoring.rating import RatedFile, Rater
from audiozen_core.scoring.rating_pool import PendingRow, RatingPool, default_workers
from audiozen_core.scoring.worker_pool import Worker, workers_are_copies
from audiozen_plugins.metric.si_sdr import SiSdr
from audiozen_plugins.metric.stoi import Estoi, Stoi

pytestmark = pytest.mark.skipif(not workers_are_copies(), reason="processes are not copies here")
SR = 16_000


class Where:
    """Its value is the process in which it is called. It raises, dies or waits for some signals."""

    name = label = "where"
    unit, higher_is_better = "", True

    def __call__(self, estimate, reference, *, sr):
        first = float(estimate[0])
        if first == 3:
            raise ValueError("I don't like it")
        if first == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        if first == 5:
            time.sleep(60)
        return float(os.getpid())


class Holds(Where):
    name = label = "holds"

    def __init__(self):
        self.network = torch.nn.Linear(1, 1)


class Draws(Where):
    """Its value is one random number of each generator."""

    name = label = "draws"

    def __call__(self, estimate, reference, *, sr):
        return random.random() + 10 * np.random.random() + 100 * float(torch.rand(()))


def signals(seed, first=None, length=8000):
    generator = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, length, generator=generator)
    found = {"noisy": clean + noise, "enhanced": clean + 0.1 * noise, "clean": clean}
    if first is not None:
        found["enhanced"][0] = first
    return found


def rated(workers, metrics, files, rater=None):
    pool, rater = RatingPool(workers), rater or Rater(metrics, SR)
    with pool.running(default=0):
        return [pool.rate(rater, f"file{number}", file, group=1.0) for number, file in enumerate(files)]


def test_values_and_order_are_the_same_to_the_last_bit_with_and_without_processes():
    files = [signals(seed, length=9000 + 1000 * seed) for seed in range(4)]
    files[2]["enhanced"] = torch.zeros(11_000)
    files[3]["noisy"] = files[3]["clean"]
    metrics = [Stoi(), SiSdr(), Estoi()]
    alone = Rater(metrics, SR)
    threads = torch.get_num_threads()
    expected = [alone.rate(f"file{number}", file, group=1.0) for number, file in enumerate(files)]
    for workers in (0, 2):
        rows = rated(workers, metrics, files)
        assert repr([as_row(row) for row in rows]) == repr(expected)
        assert [type(row) is PendingRow for row in rows] == [False, *[workers > 0] * 3]
    assert torch.get_num_threads() == threads


def as_row(row):
    return RatedFile(row.id, row.values, row.faults, row.group)


def test_first_file_is_rated_here_and_the_others_elsewhere():
    rows = rated(2, [Where()], [signals(seed) for seed in range(7)])
    processes = [row.values["enhanced"]["where"] for row in rows]
    assert processes[0] == os.getpid()
    assert {*processes[1:]} - {float(os.getpid())}


def test_random_numbers_of_a_metric_do_not_depend_on_the_process_that_rates_the_file():
    files = [signals(seed) for seed in range(7)]
    values = []
    for workers in (0, 1, 2):
        random.seed(workers), np.random.seed(workers), torch.manual_seed(workers)
        np.random.randn()  # the second number of the pair is kept
        before = repr((random.getstate(), np.random.get_state(), torch.get_rng_state().tolist()))
        rows = rated(workers, [Draws()], files)
        values.append([[state["draws"] for state in row.values.values()] for row in rows])
        assert repr((random.getstate(), np.random.get_state(), torch.get_rng_state().tolist())) == before
    assert values[0] == values[1] == values[2]
    assert len({one for row in values[0] for one in row}) == 14  # the control: they are random


def test_random_numbers_of_a_metric_depend_only_on_the_samples_of_the_rated_signal():
    def draws(rater, name, file):
        return {state: values["draws"] for state, values in rater.rate(name, file).values.items()}

    class Twice(Draws):
        name = label = "twice"

    file, rater = signals(0), Rater([Draws()], SR)
    first = draws(rater, "file", file)
    assert first["noisy"] != first["enhanced"]
    assert draws(rater, "file", file) == first  # this time, only `enhanced` is rated
    assert draws(Rater([Twice(), Draws()], SR), "renamed", file) == first
    other = draws(rater, "file", {**file, "enhanced": file["enhanced"] + 1e-3})  # the negative control
    assert other["noisy"] == first["noisy"]
    assert other["enhanced"] != first["enhanced"]


def test_metric_with_a_network_is_called_here_at_once():
    rows = rated(2, [Holds(), Where()], [signals(seed) for seed in range(4)])
    assert {row.values["enhanced"]["holds"] for row in rows} == {float(os.getpid())}
    assert [*rows[1].values["enhanced"]] == ["holds", "where"]
    assert {row.values["enhanced"]["where"] for row in rows} != {float(os.getpid())}


def test_values_of_the_noisy_signal_are_kept_and_not_sent_again(monkeypatch):
    sent = []
    send = Worker.send
    monkeypatch.setattr(Worker, "send", lambda self, step: sent.append((step.name, step.states)) or send(self, step))
    files = [signals(seed) for seed in range(3)]
    rater = Rater([SiSdr()], SR)
    first = rated(1, [], files, rater)
    again = rated(1, [], files, rater)
    assert again == first
    assert all(states == ["noisy", "enhanced"] for _, states in sent[: len(sent) // 2])
    assert sent[len(sent) // 2 :] == [(name, ["enhanced"]) for name, _ in sent[: len(sent) // 2]]


@pytest.mark.parametrize("slow", [False, True])
def test_cheap_metrics_stay_here_by_default(monkeypatch, slow):
    clock = iter(range(100))
    monkeypatch.setattr(rating_pool.time, "thread_time", lambda: next(clock) * (0.02 if slow else 0.002))
    pool, rater = RatingPool(), Rater([Where()], SR)
    with pool.running(default=1):
        rows = [pool.rate(rater, str(seed), signals(seed)) for seed in range(6)]
    elsewhere = [row.values["enhanced"]["where"] != os.getpid() for row in rows]
    assert any(elsewhere) is slow
    assert not any(elsewhere[:2])
    with pool.running(default=0):
        assert not isinstance(pool.rate(rater, "x", signals(9)), PendingRow)


def test_error_of_a_metric_names_the_file_and_the_metric_and_has_its_cause():
    with pytest.raises(RunError, match="the metric `where` fails for `file2`") as caught:
        rated(2, [Where()], [signals(0), signals(1), signals(2, first=3), signals(3)])
    assert isinstance(caught.value.__cause__, ValueError)


def test_killed_process_is_an_error_that_says_so_before_the_next_file():
    def rate_and_check(pool, rater):
        with pool.running(0):
            pool.rate(rater, "first", signals(0))
            pool.rate(rater, "killed", signals(1, first=4))
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                pool.check()

    with pytest.raises(RunError, match=r"computed the metrics of `killed` died \(signal SIGKILL\)") as caught:
        rate_and_check(RatingPool(1, argument="workers"), Rater([Where()], SR))
    assert "`workers = 0` in [trainer.args]" in caught.value.remedy


def test_no_process_is_left_after_an_error_or_an_interruption():
    pids = []

    def interrupted(pool, rater):
        with pool.running(0):
            for number in range(3):
                pool.rate(rater, str(number), signals(number, first=5 if number else None))
            pids.extend(worker._process.pid for worker in pool._workers)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted(RatingPool(2), Rater([Where()], SR))
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_copy_of_a_pending_row_is_a_row():
    rows = rated(1, [SiSdr()], [signals(0), signals(1)])
    assert type(copy.copy(rows[1])) is RatedFile
    assert copy.copy(rows[1]) == rows[1]
    assert rows[1] != rows[0]
    assert math.isfinite(rows[1].values["noisy"]["si_sdr"])


def test_long_files_are_rated_here(monkeypatch):
    monkeypatch.setattr(rating_pool, "_LONGEST", 3 * 8000)
    rows = rated(1, [SiSdr()], [signals(0), signals(1), signals(2, length=8001)])
    assert [type(row) is PendingRow for row in rows] == [False, True, False]


def test_default_leaves_cpus_to_the_networks(monkeypatch):
    monkeypatch.setattr(rating_pool, "usable_cpus", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [default_workers(cpu, 1), default_workers(gpu, 1), default_workers(gpu, 4), default_workers(cpu, 4)] == [
        6, 8, 2, 0,
    ]  # fmt: skip
    monkeypatch.setattr(rating_pool, "usable_cpus", lambda: 1)
    assert default_workers(gpu, 1) == 0
