"""A training on short random waveforms, whose hook writes down what each batch was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from tests.tiny_experiment import TinyExperiment

PARTS = """
import hashlib
import json
from pathlib import Path


class Waves(torch.utils.data.Dataset):
    def __init__(self, size: int = 7):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        clean = torch.rand(480) - 0.5
        return {"noisy": clean + 0.1 * torch.randn(480), "clean": clean, "id": f"clip_{index}", "snr": float(index)}


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        while True:
            yield Waves()[0]


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([Waves()[index] for index in range(7)])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(480, 8), nn.Dropout(0.3), nn.Linear(8, 480)

    def forward(self, noisy):
        return self.last(self.drop(torch.relu(self.first(noisy))))


class WaveTrainer(Trainer):
    # `nan_in` names epoch and batch of a NaN.
    def __init__(self, components, *, nan_in: list[int] | None = None, in_loss: bool = False, **args):
        super().__init__(components, **args)
        self.nan_in, self.in_loss = nan_in, in_loss

    def training_step(self, batch, batch_idx):
        estimate = self.model(batch["noisy"])
        loss = self.loss_function(estimate, batch["clean"])
        if self.nan_in == [self.progress.epoch + 1, batch_idx]:
            # The root of 0 has an infinite gradient.
            loss = loss * float("nan") if self.in_loss else loss + (estimate - estimate.detach()).abs().sum().sqrt()
        return {"loss": loss, "power": estimate.detach().square().mean()}

    def validation_step(self, batch, batch_idx, dataloader_idx):
        return self.loss_function(self.model(batch["noisy"]), batch["clean"])


class Scale:
    # Scales the loss, as AMP does.
    phase = "precision"

    @hookimpl.backward
    def backward(self, trainer, loss, inputs, last):
        torch.autograd.backward(loss * 1024, inputs=inputs, retain_graph=not last)
        return True

    @hookimpl.on_gradients_ready
    def on_gradients_ready(self, trainer):
        for weight in trainer.model.parameters():
            weight.grad /= 1024


class Keep:
    affects_training = False

    @hookimpl.on_training_step_start
    def on_training_step_start(self, trainer, batch, batch_idx):
        digest = hashlib.sha256(b"".join(batch[name].numpy().tobytes() for name in ("noisy", "clean"))).hexdigest()
        with Path(__file__).with_name("kept.jsonl").open("a") as file:
            print(json.dumps([trainer.progress.epoch + 1, batch_idx, digest]), file=file)
"""

TOML = """\
[meta]
save_dir = "exp"
device = "cpu"
seed = 3
num_threads = 1
[trainer]
path = "parts.WaveTrainer"
[trainer.args]
max_epochs = 3
log_interval = 1
save_ckpt_async = false
[model]
path = "parts.Net"
[loss_function]
path = "torch.nn.MSELoss"
[optimizer]
path = "torch.optim.Adam"
args.lr = 0.01
[dataset]
path = "parts.Waves"
dataloader.batch_size = 2
[validate_dataset]
path = "parts.Waves"
dataloader.batch_size = 4
[[hooks]]
path = "parts.Keep"
[[hooks]]
path = "tensorboard"
enabled = false
"""


class WaveExperiment(TinyExperiment):
    """The experiment in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, PARTS)

    def train(self, *changes: tuple[str, str], name: str = "waves", **options) -> Path:
        """Runs it, and returns the folder of the run."""
        self.run(*changes, name=name, text=TOML, **options)
        return self.folder / "exp" / name

    def kept(self) -> dict[tuple[int, int], str]:
        """Returns the digest of each batch, by epoch and index."""
        lines = (self.folder / "kept.jsonl").read_text().splitlines()
        return {(epoch, batch): digest for epoch, batch, digest in map(json.loads, lines)}


def digest(batch: dict[str, torch.Tensor]) -> str:
    """Returns the digest that the hook writes down for a batch."""
    return hashlib.sha256(b"".join(batch[name].numpy().tobytes() for name in ("noisy", "clean"))).hexdigest()


def recorded(run: Path) -> dict[int, dict[str, float]]:
    """Returns the scalars of each optimiser step in `metrics.jsonl`."""
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {record["step"]: record for record in records if "step/loss" in record}
