"""What only a GPU can show. Without one, these tests skip."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audiozen_core.errors import RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer.host_copy import HostCopy
from audiozen_plugins.hooks.amp import Amp
from audiozen_plugins.hooks.clip_grad_norm import ClipGradNorm
from audiozen_plugins.hooks.metrics_jsonl import MetricsJsonl
from audiozen_plugins.hooks.resources import Resources
from audiozen_plugins.model.sdnn import SDNN
from tests.core.checkpoint.exactness import difference
from tests.tiny_experiment import TinyExperiment
from tests.tiny_training import TinyTrainer, make_loader, make_trainer, state_of, weights_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def on_gpu(**options):
    """Returns a trainer on the GPU, with a network that is moved there before its optimiser is made."""
    model = options.pop("model", lambda: nn.Sequential(nn.Linear(4, 1), nn.Dropout(0.1)))
    trainer = make_trainer(model=lambda: model().cuda(), **options)
    trainer.device = trainer.scalars._device = torch.device("cuda")
    return trainer


class ForbidsWaiting:
    """Makes every wait for the GPU an error, from the third batch of an epoch until its last."""

    @hookimpl
    def on_training_step_end(self, trainer, batch_idx):
        if batch_idx == 2:
            torch.cuda.set_sync_debug_mode("error")
        elif batch_idx == trainer.num_batches - 1:
            torch.cuda.set_sync_debug_mode("default")

    @hookimpl
    def on_teardown(self):
        torch.cuda.set_sync_debug_mode("default")


class Waits(TinyTrainer):
    def training_step(self, batch, batch_idx):
        loss = self._error(batch)
        if loss.item() < 0:
            raise AssertionError
        return loss


def train_without_waiting(folder, **options):
    hooks = {
        "forbids": ForbidsWaiting(), "clip": ClipGradNorm(), "amp": Amp(dtype="bfloat16"), "metrics": MetricsJsonl(),
        "resources": Resources(),
    }  # fmt: skip
    trainer = on_gpu(folder=folder, hooks=hooks, max_epochs=2, clip_grad_norm_value=1.0, plot_norm=True, **options)
    trainer.use_amp = True
    trainer.train(make_loader(200, batch_size=4, pin_memory=True))
    return trainer


@pytest.mark.parametrize("options", [{}, {"log_interval": 3}, {"gradient_accumulation_steps": 4}], ids=str)
def test_a_training_step_never_waits_for_the_gpu(tmp_path, options):
    trainer = train_without_waiting(tmp_path, **options)
    assert trainer.progress.epoch == 2
    assert all({"loss", "grad_norm"} <= step.keys() for step in trainer.scalars.per_batch[-1:])


def test_a_step_that_reads_its_loss_waits(tmp_path):
    with pytest.raises(Exception, match="synchronizing CUDA operation"):
        train_without_waiting(tmp_path, cls=Waits)


def test_reading_a_copy_does_not_wait_for_later_work_but_reading_a_tensor_does():
    value = torch.arange(8.0, device="cuda").sum()
    for read, finished in ((HostCopy({"x": value}).read, False), (lambda: {"x": value.item()}, True)):
        torch.cuda._sleep(1_000_000_000)
        later = torch.cuda.Event()
        later.record()
        assert read() == {"x": 28.0}
        assert later.query() == finished
        torch.cuda.synchronize()


def test_a_copy_has_the_value_of_the_time_when_it_was_queued():
    value = torch.ones((), device="cuda")
    torch.cuda._sleep(100_000_000)
    copy = HostCopy({"x": value})
    value.add_(1)
    torch.cuda.synchronize()
    assert copy.read() == {"x": 1.0}


def test_scalars_on_a_gpu_are_those_of_reading_at_once():
    late = on_gpu(max_epochs=2)
    late.train(make_loader(40))
    at_once = on_gpu(max_epochs=2)
    at_once.scalars.read_at_once = True
    at_once.train(make_loader(40))
    assert len(late.scalars.per_batch) == 10
    assert late.scalars.per_batch == at_once.scalars.per_batch


def test_amp_scales_float16_gradients_and_stores_the_scale():
    amp = Amp()
    trainer = on_gpu(max_epochs=2, hooks={"amp": amp})
    trainer.use_amp = True
    trainer.train(make_loader())
    assert state_of(trainer)["hook_amp"]["scaler"]["scale"] >= 1.0
    again = Amp()
    again.load_state_dict(amp.state_dict())
    assert again.state_dict() == amp.state_dict()


def test_an_overflow_of_float16_leaves_the_step_out_and_halves_the_scale():
    trainer = on_gpu(max_epochs=1, hooks={"amp": Amp(init_scale=2.0**100, max_overflows=500)})
    trainer.use_amp = True
    before = weights_of(trainer).clone()
    trainer.train(make_loader(12))
    state = state_of(trainer)["hook_amp"]
    assert (state["in_a_row"], state["scaler"]["scale"]) == ({"": 3}, 2.0**97)
    assert torch.equal(weights_of(trainer), before)


DROPOUT = """
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 1))
"""
ON_GPU = (
    ('device = "cpu"', 'device = "cuda"\nuse_deterministic_algorithms = true'),
    ('path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}', 'path = "parts.Net"'),
)
EPOCHS = ("max_epochs = 2", "max_epochs = 4")


@pytest.fixture
def deterministic(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("amp", ["false", "true"])
def test_a_resumed_run_on_a_gpu_ends_like_an_uninterrupted_one_to_the_last_bit(tmp_path, amp):
    experiment = TinyExperiment(tmp_path, DROPOUT)
    amp = ('save_dir = "exp"', f'save_dir = "exp"\nuse_amp = {amp}')
    whole = experiment.run(*ON_GPU, EPOCHS, amp, name="whole")
    experiment.run(*ON_GPU, amp, name="halves")
    halves = experiment.run(*ON_GPU, EPOCHS, amp, name="halves", resume=True)
    assert whole["model"]["0.weight"].shape == (16, 4)
    for name in ("model", "optimizer", "progress", "rng", "scalars"):
        assert difference(whole[name], halves[name]) is None, name


def test_a_run_on_a_gpu_is_resumed_and_tested_on_the_cpu(tmp_path):
    experiment = TinyExperiment(tmp_path, DROPOUT)
    experiment.run(*ON_GPU[1:], ('device = "cpu"', 'device = "cuda"'))
    state = experiment.run(*ON_GPU[1:], EPOCHS, modes=("train", "test"), resume=True)
    assert state["progress"]["epoch"] == 4


def test_a_full_gpu_is_an_error_with_the_step_and_the_peak():
    class Greedy(TinyTrainer):
        def training_step(self, batch, batch_idx):
            if batch_idx == 2:
                torch.empty(1 << 50, dtype=torch.uint8, device=self.device)
            return self._error(batch)

    with pytest.raises(RunError, match=r"the GPU ran out of memory at step 3 \(epoch 1, batch 2\).* of \d+\.\d\d GiB"):
        on_gpu(cls=Greedy, max_epochs=1).train(make_loader())


def test_sdnn_gives_the_same_on_gpu_and_cpu():
    torch.manual_seed(0)
    network = SDNN(hidden_size=32).eval()
    magnitude = torch.rand(2, 257, 60)
    with torch.no_grad():
        on_cpu = network(magnitude.clone())
        on_the_gpu = network.cuda()(magnitude.cuda()).cpu()
    # SDNN rounds to steps of 1/64 and more, so a difference of the last bit may become one step somewhere.
    assert (on_cpu - on_the_gpu).abs().mean() < 1e-3 * on_cpu.abs().mean()
    assert on_cpu.abs().mean() > 0
