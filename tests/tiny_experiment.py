"""An experiment of a few milliseconds: one TOML file, with networks, losses and a trainer in `parts.py` beside it."""

from __future__ import annotations

from pathlib import Path

from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.experiment.experiment import Experiment

PARTS = """\
import torch
from torch import nn
from torch.nn import functional as F
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer.base_trainer import BaseTrainer


class Data(torch.utils.data.Dataset):
    def __init__(self, size: int = 6):
        self.x = torch.randn(size, 4, generator=torch.Generator().manual_seed(1))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"x": self.x[index], "y": self.x[index].sum(0, keepdim=True)}


class Trainer(BaseTrainer):
    def training_step(self, batch, batch_idx):
        return {"loss": self.loss_function(self.model(batch["x"]), batch["y"])}

    def validation_step(self, batch, batch_idx, dataloader_idx):
        return self.training_step(batch, batch_idx)["loss"]

    def validation_epoch_end(self, outputs):
        return -float(torch.stack(outputs[0]).mean())

    test_step = validation_step

    def test_epoch_end(self, outputs):
        return {"loss": -self.validation_epoch_end(outputs)}
"""

TOML = """\
[meta]
save_dir = "exp"
device = "cpu"
[trainer]
path = "parts.Trainer"
[trainer.args]
max_epochs = 2
[model]
path = "torch.nn.Linear"
args = {in_features = 4, out_features = 1}
[loss_function]
path = "torch.nn.MSELoss"
[optimizer]
path = "torch.optim.Adam"
args.lr = 0.1
[dataset]
path = "parts.Data"
dataloader.batch_size = 2
[validate_dataset]
path = "parts.Data"
dataloader.batch_size = 2
[test_dataset]
path = "parts.Data"
dataloader.batch_size = 2
"""


class TinyExperiment:
    """A folder with `parts.py`, and TOML files made from one text.

    Args:
        folder: the folder.
        parts: more code for `parts.py`.
    """

    def __init__(self, folder: Path, parts: str = "") -> None:
        self.folder = folder
        (folder / "parts.py").write_text(f"{PARTS}\n\n{parts}")

    def write(self, *changes: tuple[str, str], name: str = "tiny", text: str = TOML) -> Path:
        """Writes a TOML file, with each old text replaced by a new one."""
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path = self.folder / f"{name}.toml"
        path.write_text(text.replace('"exp"', f'"{self.folder}/exp"'))
        return path

    def run(self, *changes: tuple[str, str], modes=("train",), name="tiny", text=TOML, overrides=(), **options):
        """Writes a TOML file and runs it. Returns the state of its latest checkpoint."""
        path = self.write(*changes, name=name, text=text)
        Experiment.load(path, modes=modes, overrides=overrides).run(**options)
        return self.state(name)

    def build(self, *changes: tuple[str, str], modes=("train",), text=TOML):
        """Writes a TOML file and builds its trainer and loaders."""
        experiment = Experiment.load(self.write(*changes, text=text), modes=modes)
        with experiment.scope:
            return experiment.build()

    def state(self, name: str = "tiny", which="latest"):
        """Returns the state of a checkpoint."""
        return CheckpointStore(self.folder / "exp" / name / "checkpoints").load(which).state
