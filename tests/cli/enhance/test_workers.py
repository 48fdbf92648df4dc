"""`audiozen enhance`: batches, several processes, and writing beside the network."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from audiozen.model import CRN
from audiozen_core.errors import RunError
from audiozen_core.inference import jobs
from audiozen_core.inference.enhancer import Enhancer
from audiozen_core.inference.inputs import list_jobs
from audiozen_core.inference.load import load
from audiozen_core.inference.results import EnhancedResult
from audiozen_core.scoring.worker_pool import run_jobs
from tests.cli.enhance.audio_files import SR, noise, read, records, write


def test_batches_give_what_single_files_give(enhance, place):
    for index in range(5):
        write(f"in/{index}.wav", noise(4000, seed=index), subtype="FLOAT")
    write("in/longer.wav", noise(5000), subtype="FLOAT")
    write("in/stereo.wav", noise(4000, 2), subtype="FLOAT")
    write("in/stereo2.wav", noise(4000, 2, seed=9), subtype="FLOAT")
    wrong = noise(4000, 2)
    wrong[3] = np.inf
    write("in/wrong.wav", wrong, subtype="FLOAT")
    enhance("in", "-o", "single", code=1)
    enhance("in", "-o", "batches", "--batch-size", 3, code=1)
    enhance("in", "-o", "mixed", "--batch-size", 3, "--mix", code=1)
    enhance("in", "-o", "mixed_single", "--mix", code=1)
    for first, second, count in (("single", "batches", 8), ("mixed", "mixed_single", 8)):
        names = sorted(path.name for path in Path(first).glob("*.wav"))
        assert len(names) == count
        for name in names:
            np.testing.assert_allclose(read(f"{first}/{name}"), read(f"{second}/{name}"), atol=1e-6)
    assert read("mixed/stereo.wav").shape == (4000, 1)


def test_error_of_a_batch_is_reported_for_each_of_its_files(enhance, place):
    for name in ("a", "b"):
        write(f"in/{name}.wav", noise(4000), 15999)
    write("in/good.wav")
    outcome = enhance("in", "-o", "out", "--batch-size", 2, code=1)
    assert outcome.err.count("15999 Hz can't be resampled") == 2
    assert Path("out/good.wav").is_file()


def test_workers_write_what_one_process_writes(enhance, place):
    for number in range(3):
        write(f"in/{number}.wav", noise(4000 + number, 2, seed=number))
    write("in/long.wav", noise(31 * SR))
    Path("in/broken.wav").write_bytes(b"RIFF")
    alone = enhance("in", "-o", "alone", "--num-workers", 0, code=1)
    outcome = enhance("in", "-o", "workers", "--num-workers", 2, code=1)
    assert outcome.err == alone.err
    assert "broken.wav" in outcome.err
    names = sorted(path.name for path in Path("alone").glob("*.wav"))
    assert names == ["0.wav", "1.wav", "2.wav", "long.wav"]
    for name in names:
        np.testing.assert_allclose(read(f"workers/{name}"), read(f"alone/{name}"), atol=2**-15)
    assert {record["result"] for record in records("workers")} == set(names)
    assert "skipped 4" in enhance("in", "-o", "workers", "--num-workers", 2, code=1).out


@pytest.mark.parametrize("options", [(), ("--subtype", "FLOAT"), ("--format", "flac"), ("--format", "ogg")])
def test_workers_and_one_process_write_the_bytes_that_the_call_from_python_writes(enhance, model, place, options):
    for number in range(3):
        write(f"in/{number}.wav", noise(4000 + number, 2, seed=number))
    for workers in (0, 2):
        enhance("in", "-o", f"out{workers}", "--num-workers", workers, *options)
    network = load(model, device="cpu")
    for number in range(3):
        one, two = (next(Path(f"out{workers}").glob(f"{number}.*")) for workers in (0, 2))
        subtype = "FLOAT" if "FLOAT" in options else None
        network.enhance_file(f"in/{number}.wav", place / f"by_hand{one.suffix}", subtype=subtype)
        content = Path(f"by_hand{one.suffix}").read_bytes()
        if one.suffix == ".ogg":  # libsndfile gives each stream a random number
            assert np.array_equal(read(one), read(two))
            continue
        assert one.read_bytes() == two.read_bytes() == content


def test_workers_send_encoded_files(model, place, monkeypatch):
    sent = []

    def watched(work, batches, **options):
        for step, result in run_jobs(work, batches, **options):
            sent.extend(found for _, found in result)
            yield step, result

    monkeypatch.setattr(jobs, "run_jobs", watched)
    for number in range(2):
        write(f"in/{number}.wav")
    out = Path("out")
    jobs.enhance_jobs(load(model, device="cpu"), list_jobs(["in"], out), out, jobs.Options(), num_workers=2)
    assert sorted(len(file.content) for found in sent for file in found.files) == [44 + 2 * 4000] * 2


class Dithered(CRN):
    """A network that draws random numbers."""

    def forward(self, noisy):
        return super().forward(noisy) + 0.1 * torch.randn_like(noisy)


def test_random_numbers_of_a_network_do_not_depend_on_the_workers(model, place):
    network = load(model, device="cpu")
    network.trainer.models[""].__class__ = Dithered
    for number in range(5):
        write(f"in/{number}.wav", np.zeros((4000, 1), np.float32) + noise(seed=0))
    found = {}
    for workers in (0, 2):
        out = Path(f"out{workers}")
        jobs.enhance_jobs(network, list_jobs(["in"], out), out, jobs.Options(), num_workers=workers)
        found[workers] = [read(out / f"{number}.wav") for number in range(5)]
    for first, second in zip(*found.values(), strict=True):
        np.testing.assert_array_equal(first, second)
    # The inputs are equal, so only the random numbers differ.
    assert not any(np.array_equal(found[2][0], other) for other in found[2][1:])


@pytest.mark.parametrize("workers", [0, 2])
def test_unexpected_error_of_a_network_loses_its_file_only(enhance, place, monkeypatch, workers):
    for name in ("good", "odd", "other"):
        write(f"in/{name}.wav")
    alone = jobs._Enhancing._alone

    def fail(enhancing, job):
        if job.source.stem == "odd":
            raise ValueError("an odd file")
        return alone(enhancing, job)

    monkeypatch.setattr(jobs._Enhancing, "_alone", fail)
    told = enhance("in", "-o", "out", "--num-workers", workers, code=1).err
    assert "in/odd.wav` can't be enhanced: ValueError: an odd file" in told
    assert sorted(path.name for path in Path("out").glob("*.wav")) == ["good.wav", "other.wav"]


def test_worker_that_dies_loses_its_file_only(enhance, place, monkeypatch):
    for name in ("good", "killed", "other"):
        write(f"in/{name}.wav")
    alone = jobs._Enhancing._alone

    def killed(enhancing, job):
        if job.source.stem == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return alone(enhancing, job)

    monkeypatch.setattr(jobs._Enhancing, "_alone", killed)
    told = enhance("in", "-o", "out", "--num-workers", 2, code=1).err
    assert "in/killed.wav" in told
    assert "the worker process died (signal SIGKILL) (`--num-workers 0 --traceback`" in told
    assert sorted(path.name for path in Path("out").glob("*.wav")) == ["good.wav", "other.wav"]


def test_long_result_of_a_killed_worker_is_made_again(enhance, place, monkeypatch):
    write("in/long.wav", noise(31 * SR)), write("in/b.wav")
    store = jobs.store_result

    def killed(*arguments):
        store(*arguments[:4], os.getpid())  # as if the command had been killed, too, not only its worker
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patched:
        patched.setattr(jobs, "store_result", killed)
        assert "long.wav" in enhance("in", "-o", "out", "--num-workers", 2, code=1).err
    assert "enhanced 1 file" in enhance("in", "-o", "out").out
    assert sorted(path.name for path in Path("out").iterdir()) == ["b.wav", "enhanced.jsonl", "long.wav"]


def test_wrong_number_of_workers_is_an_error(model, place):
    with pytest.raises(RunError, match=r"`num_workers` is -1, but must be at least 0"):
        jobs.enhance_jobs(load(model, device="cpu"), [], Path("out"), jobs.Options(), num_workers=-1)


def test_workers_are_for_networks_on_the_cpu(model, place, monkeypatch):
    monkeypatch.setattr(Enhancer, "device", torch.device("cuda:0"))
    with pytest.raises(RunError, match=r"can't share the network on the device cuda:0"):
        jobs.enhance_jobs(load(model, device="cpu"), [], Path("out"), jobs.Options(), num_workers=2)


def test_each_file_is_opened_once_and_written_while_the_next_one_is_enhanced(model, place, monkeypatch):
    import threading
    from collections import Counter

    from audiozen_core.audio import files

    for name in "abc":
        write(f"in/{name}.wav")
    opened, order, begun = Counter(), [], threading.Event()
    open_bytes, encode, enhance_file_by = files._open_bytes, EnhancedResult.encode, jobs.enhance_file_by

    def start(model, writing, source, *args, **options):
        order.append(f"enhance {source.stem}")
        begun.set()
        return enhance_file_by(model, writing, source, *args, **options)

    def finish(result):
        if result.target.stem != "c":  # nothing follows the last one
            assert begun.wait(10), "the next file does not begin before this one is written"
            begun.clear()
        order.append(f"write {result.target.stem}")
        return encode(result)

    monkeypatch.setattr(files, "_open_bytes", lambda path: opened.update([path.name]) or open_bytes(path))
    monkeypatch.setattr(jobs, "enhance_file_by", start)
    monkeypatch.setattr(EnhancedResult, "encode", finish)
    parts = []
    outcome = jobs.enhance_jobs(
        load(model), list_jobs(["in"], Path("out")), Path("out"), jobs.Options(),
        on_start=parts.append, on_part=parts.append,
    )  # fmt: skip
    assert list(outcome.written) == [Path(f"in/{name}.wav").resolve() for name in "abc"]
    assert opened == {f"{name}.wav": 1 for name in "abc"}
    assert order.index("enhance b") < order.index("write b")
    assert sum(parts[1:]) == parts[0] == sum(path.stat().st_size for path in Path("in").iterdir())
