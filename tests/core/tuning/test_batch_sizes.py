"""The search for a batch size, and what a short training with one measures."""

import io
import json
import sys

import pytest

from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.tuning import batch_trial
from audiozen_core.tuning.batch_sizes import BatchSizeResult, largest, recommended, search_sizes
from audiozen_core.tuning.batch_trial import is_out_of_memory, measure_size
from audiozen_core.tuning.short_training import check_batch_size_is_used, short_training
from tests.tiny_experiment import TinyExperiment


def machine(*, capacity=10**9, data=None, device="cuda", speed=float):
    """Returns a function that measures a size on a machine with room for so many samples."""

    def measure(size):
        if size > capacity:
            return BatchSizeResult(size, fits=False, device=device, data_size=data, reason="out of memory")
        return BatchSizeResult(size, fits=True, samples_per_second=speed(size), device=device, data_size=data)

    return measure


def sizes(measured):
    return [result.batch_size for result in measured]


@pytest.mark.parametrize("capacity", [*range(1, 40), 100, 127, 128, 1000])
def test_largest_size_that_fits_is_found_to_an_eighth(capacity):
    measured = search_sizes(machine(capacity=capacity))
    found = largest(measured).batch_size
    assert found <= capacity
    assert capacity - found < max(1, found / 8)
    assert len(measured) <= capacity.bit_length() + 4


def test_sizes_are_doubled_up_to_the_size_of_the_data():
    assert sizes(search_sizes(machine(data=24))) == [1, 2, 4, 8, 16, 24]
    assert sizes(search_sizes(machine(data=24), first=3, most=10)) == [3, 6, 10]
    assert sizes(search_sizes(machine(data=1))) == [1]
    assert sizes(search_sizes(machine(), most=5)) == [1, 2, 4, 5]  # a stream has no size


def test_on_a_cpu_the_search_ends_when_larger_batches_are_not_faster():
    def speed(size):
        return float(min(size, 4))

    assert sizes(search_sizes(machine(device="cpu", speed=speed))) == [1, 2, 4, 8, 16]
    assert sizes(search_sizes(machine(device="cuda", speed=speed, data=64))) == [1, 2, 4, 8, 16, 32, 64]


def test_one_slow_measurement_does_not_end_the_search():
    def speed(size):
        return 0.5 if size == 4 else float(size)

    assert sizes(search_sizes(machine(device="cpu", speed=speed, data=16))) == [1, 2, 4, 8, 16]


def test_a_first_size_that_is_too_large_is_halved():
    assert largest(search_sizes(machine(capacity=6), first=16)).batch_size == 6


def test_recommended_is_the_smallest_that_is_nearly_as_fast_as_the_fastest():
    speeds = {1: 10.0, 2: 18.0, 4: 29.0, 8: 30.0, 16: 25.0}
    measured = search_sizes(machine(speed=speeds.__getitem__, data=16))
    assert recommended(measured).batch_size == 4
    assert largest(measured).batch_size == 16


@pytest.mark.parametrize(
    ("options", "capacity", "message"),
    [
        ({}, 0, "not even a batch size of 1 fits: out of memory"),
        ({"first": 0}, 9, "0 is not a batch size"),
        ({"first": 8, "most": 4}, 9, "--max is 4, less than --min, which is 8"),
        ({"first": 8}, 9, "--min is 8, but the training data has only 6 samples"),
    ],
)
def test_limits_without_a_size_are_errors(options, capacity, message):
    with pytest.raises(RunError, match=message) as error:
        search_sizes(machine(capacity=capacity, data=6), **options)
    assert error.value.remedy


PARTS = """
class Full(Trainer):
    # Has memory for three samples only.
    def __init__(self, components, *, error: str = "cuda", **args):
        super().__init__(components, **args)
        self.error = error

    def training_step(self, batch, batch_idx):
        if len(batch["x"]) > 3:
            raise {
                "cuda": torch.OutOfMemoryError("CUDA out of memory."),
                "python": MemoryError(),
                "cpu": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
                "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
                "other": ValueError("planted"),
            }[self.error]
        return super().training_step(batch, batch_idx)


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        data = Data()
        return (data[index] for index in range(len(data)))


class Pairs(torch.utils.data.Sampler):
    def __init__(self, data_source):
        pass

    def __iter__(self):
        return iter([[0, 1]])

    def __len__(self):
        return 1
"""


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


@pytest.mark.parametrize("error", ["cuda", "python", "cpu", "cublas"])
def test_full_memory_means_that_a_size_does_not_fit(tiny, error):
    experiment = Experiment.load(tiny.write(("parts.Trainer", "parts.Full"), ("max_epochs = 2", f'error = "{error}"')))
    assert not measure_size(experiment, 4).fits
    fits = measure_size(experiment, 3)
    assert (fits.fits, fits.device, fits.data_size) == (True, "cpu", 6)
    assert fits.samples_per_second > 0
    assert fits.peak_memory > 10 * 2**20
    assert not (tiny.folder / "exp").exists()


def test_another_error_is_no_matter_of_memory(tiny):
    experiment = Experiment.load(tiny.write(("parts.Trainer", "parts.Full"), ("max_epochs = 2", 'error = "other"')))
    with pytest.raises(AudioZenError, match="planted"):
        measure_size(experiment, 4)
    assert not is_out_of_memory(ValueError("planted"))


class Counts:
    """Counts the samples of each step, as they are in the batches."""

    def __init__(self, clock):
        self.clock = clock
        self.counts = []
        self.seen = 0

    @hookimpl
    def on_training_step_start(self, batch):
        self.seen += len(batch["x"])

    @hookimpl
    def on_optimizer_step_end(self):
        self.counts.append(self.seen)

    @hookimpl
    def stop_within_epoch_reason(self):
        return "over" if len(self.counts) == 9 else None


STREAM = ('[dataset]\npath = "parts.Data"', '[dataset]\npath = "parts.Stream"')


@pytest.mark.parametrize("changes", [(), (STREAM,)], ids=["data", "stream"])
@pytest.mark.parametrize("args", ["", "steps_per_epoch = 1"], ids=["passes", "steps"])
@pytest.mark.parametrize("window", [1, 2])
def test_samples_are_counted_as_the_batches_have_them(tiny, window, args, changes):
    file = tiny.write(("max_epochs = 2", f"gradient_accumulation_steps = {window}\n{args}"), *changes)
    clock = batch_trial._Clock(steps=5, seconds=60.0)
    with short_training(Experiment.load(file), clock, batch_size=4) as (trainer, loader):
        clock.observe(loader)
        trainer.train(loader)
    counts = Counts(clock)
    with short_training(Experiment.load(file), counts, batch_size=4) as (trainer, loader):
        trainer.train(loader)
    assert [samples for samples, _ in clock._ends] == counts.counts[:6]
    assert counts.counts[:2] == [[4, 6], [6, 12]][window - 1]  # a pass has four samples, then two


def test_search_ends_when_a_batch_has_the_whole_stream(tiny):
    experiment = Experiment.load(tiny.write(STREAM))
    assert [measure_size(experiment, size, steps=1).data_size for size in (4, 6, 8)] == [None, None, 6]
    assert max(sizes(search_sizes(lambda size: measure_size(experiment, size, steps=1)))) <= 8


def test_a_batch_sampler_leaves_nothing_to_choose(tiny):
    sampler = (
        '[dataset]\npath = "parts.Data"\ndataloader.batch_size = 2',
        '[dataset]\npath = "parts.Data"\ndataloader.batch_sampler.path = "parts.Pairs"',
    )
    with pytest.raises(RunError, match=r"\[dataset.dataloader\] has a `batch_sampler`"):
        check_batch_size_is_used(Experiment.load(tiny.write(sampler)))


def answer_of(monkeypatch, folder, **request):
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"overrides": [], "steps": 1, **request}) + "\n"))
    # The end of the input ends the process, because the one that asked is gone.
    monkeypatch.setattr(batch_trial, "_end_with_input", lambda: None)
    batch_trial.main([str(folder / "answer.json")])
    return json.loads((folder / "answer.json").read_text())


def test_the_program_answers_a_request(tiny, monkeypatch, tmp_path):
    file = str(tiny.write(("parts.Trainer", "parts.Full"), ("max_epochs = 2", 'error = "other"')))
    found = answer_of(monkeypatch, tmp_path, file=file, batch_size=2)
    assert BatchSizeResult(**found).fits
    assert found["samples_per_second"] > 0
    found = answer_of(monkeypatch, tmp_path, file=file, batch_size=4)
    assert "planted" in found["error"]["message"]
    changed = answer_of(monkeypatch, tmp_path, file=file, batch_size=4, overrides=["+trainer.args.error=cuda"])
    assert changed["reason"] == "out of memory"
