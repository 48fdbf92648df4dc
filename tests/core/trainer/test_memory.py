"""What the error says if memory runs out or the data loader fails."""

import gc
import os
import signal
import sys
import time
import weakref
from multiprocessing.resource_sharer import DupFd

import pytest
import torch

from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import DataError, RunError
from audiozen_core.hooks.marker import hookimpl
from tests.tiny_training import Pairs, TinyTrainer, make_loader, make_trainer


def test_error_for_a_full_gpu_names_the_step_and_the_batch_size():
    class Full(TinyTrainer):
        def training_step(self, batch, batch_idx):
            if self.progress.step == 7:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")
            return super().training_step(batch, batch_idx)

    with pytest.raises(RunError) as error:
        make_trainer(cls=Full, max_epochs=3).train(make_loader())
    text = str(error.value)
    assert "out of memory at step 8 (epoch 2, batch 2), with batches of 4 samples" in text
    assert "Tried to allocate 20.00 GiB" in text
    assert "batch_size" in error.value.remedy


def test_out_of_memory_error_names_the_step_batch_size_and_peak_memory():
    class Huge(TinyTrainer):
        def training_step(self, batch, batch_idx):
            if self.progress.step == 7:
                bytearray(10**15)
            return super().training_step(batch, batch_idx)

    with pytest.raises(RunError) as error:
        make_trainer(cls=Huge, max_epochs=3).train(make_loader())
    text = str(error.value)
    assert (
        "the machine ran out of memory at step 8 (epoch 2, batch 2), with batches of 4 samples; the peak memory" in text
    )
    assert "torch says: " in text


class Dies(Pairs):
    """Kills the worker that reads an item. The system does the same when memory runs out."""

    def __getitem__(self, index):
        if torch.utils.data.get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


class Waits:
    """Loads a batch in a hook. Torch can raise the dead-worker error anywhere in the main process."""

    @hookimpl
    def on_epoch_start(self):
        next(iter(BatchLoader(Dies(), batch_size=4, num_workers=1).epoch(1)))


@pytest.mark.parametrize("hooks", [{}, {"waits": Waits()}], ids=["loop", "hook"])
def test_killed_worker_is_reported_as_a_failed_loader(hooks):
    trainer = make_trainer(hooks=hooks)
    with pytest.raises(RunError, match=r"the data loader failed near step 1 \(epoch 1, batch 0\)") as error:
        trainer.train(BatchLoader(Dies(), batch_size=4, num_workers=1))
    assert "num_workers" in error.value.remedy
    assert "worker" in error.value.notes[0]


class Ends(Pairs):
    """Calls `how` in the worker that reads an item, so the worker exits or hangs."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def __getitem__(self, index):
        if torch.utils.data.get_worker_info():
            self.how()
        return super().__getitem__(index)


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("how", [sys.exit, interrupt])
def test_worker_that_exits_is_reported_as_a_failed_loader(how):
    with pytest.raises(RunError, match="the data loader failed near step 1"):
        make_trainer().train(BatchLoader(Ends(how), batch_size=4, num_workers=1))


class ReadsFromDeadWorker(TinyTrainer):
    """Asks a worker whose socket no longer exists for a batch in shared memory, as torch does."""

    def training_step(self, batch, batch_idx):
        descriptor = DupFd(0)
        descriptor._id = ("/nowhere/socket", 1)
        descriptor.detach()


def test_batch_from_a_worker_that_has_exited_is_reported_as_a_failed_loader():
    with pytest.raises(RunError, match="the data loader failed near step 1") as error:
        make_trainer(cls=ReadsFromDeadWorker).train(make_loader())
    assert "No such file" in str(error.value)


def test_missing_file_in_a_training_step_is_not_reported_as_a_failed_loader():
    class OpensMissingFile(TinyTrainer):
        def training_step(self, batch, batch_idx):
            open("/nowhere/file")  # noqa: PTH123, SIM115

    with pytest.raises(FileNotFoundError):
        make_trainer(cls=OpensMissingFile).train(make_loader())


def test_worker_that_is_too_slow_is_reported_as_a_failed_loader():
    with pytest.raises(RunError, match="the data loader failed near step 1") as error:
        make_trainer().train(BatchLoader(Ends(lambda: time.sleep(1)), batch_size=4, num_workers=1, timeout=0.2))
    assert "`timeout`" in error.value.remedy
    assert "0.2 seconds" in error.value.notes[0]


def test_unrelated_runtime_error_is_not_translated():
    class Wrong(TinyTrainer):
        def training_step(self, batch, batch_idx):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RunError, match=r"training_step failed in batch 0: RuntimeError: mat1 and mat2"):
        make_trainer(cls=Wrong).train(make_loader())


def test_plain_runtime_error_about_memory_is_not_translated():
    class Huge(TinyTrainer):
        def training_step(self, batch, batch_idx):
            torch.empty(10**15)

    with pytest.raises(RunError, match=r"training_step failed in batch 0: RuntimeError.*memory"):
        make_trainer(cls=Huge).train(make_loader())


class Wrong(Pairs):
    """A data set with a bug."""

    def __getitem__(self, index):
        raise RuntimeError("DataLoader worker (pid 1) exited unexpectedly, or so it seems")


@pytest.mark.parametrize("workers", [0, 1])
def test_error_in_the_data_set_is_not_reported_as_a_failed_loader(workers):
    with pytest.raises(
        DataError, match=r"sample 0 of the data set Wrong can't be loaded: RuntimeError.*or so it seems"
    ):
        make_trainer().train(BatchLoader(Wrong(), batch_size=4, num_workers=workers))


def test_error_that_ends_a_run_is_freed_with_all_that_it_refers_to_when_the_caller_is_done():
    """A notebook keeps the trainer. The frames of the error refer to the batch, and to the memory of the GPU."""

    class Fails(TinyTrainer):
        def training_step(self, batch, batch_idx):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    class Endings:
        @hookimpl
        def on_teardown(self, ending):
            told.append((ending.kind, type(ending.error)))

    told = []
    trainer = make_trainer(cls=Fails, max_epochs=1, hooks={"endings": Endings()})
    gc.disable()
    try:
        freed = _weak_error_of(lambda: trainer.train(make_loader()))
        assert freed() is None, "nothing but the caller refers to the error"
    finally:
        gc.enable()
    assert (trainer.ending.kind, trainer.ending.error) == ("failed", None)
    assert trainer.ending.reason.startswith("RunError: ")
    assert told == [("failed", RunError)], "hooks get the error"


def _weak_error_of(run):
    """Runs a function that raises an error, and returns a weak reference to the error."""
    try:
        run()
    except RunError as error:
        return weakref.ref(error)
