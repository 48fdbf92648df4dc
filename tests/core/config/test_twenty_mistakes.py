"""A file with twenty mistakes gets twenty findings in one run, each at its line and column."""

import re

import pytest

from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.errors import ConfigError

PARTS = """
import abc
import torch
from audiozen_core.trainer.base_trainer import BaseTrainer


class Trainer(BaseTrainer):
    def __init__(self, components, max_epochs: int = 1): ...

    def training_step(self, batch, batch_idx): ...


class Net(torch.nn.Module):
    def __init__(self, width: int, betas: tuple[float, float] = (0.9, 0.99), encoder=None): ...


class Encoder:
    def __init__(self, depth: int = 1): ...


class Abstract(torch.nn.Module, abc.ABC):
    @abc.abstractmethod
    def encode(self): ...


class Data(torch.utils.data.Dataset):
    def __init__(self, root: str): ...
"""

# « and » enclose each mistake, and its code follows. `remove_marks` removes these marks before the file is written.
MARKED = """\
# Geräusche 🎧 before everything else
«sede»AZ102 = 1

[meta]
save_dir = "${here}/é/漢字"
use_amp = «"yes"»AZ105
«'seeed'»AZ102 = 0

[trainer]
path = «"parts.Trainr"»AZ206

[acoustics]
n_fft = 512
win_length = «1024»AZ107
"hop_length" = «"256"»AZ105

[model_g]
path = "parts.Net"
args = { «"é漢"»AZ140 = '''
[not.a.header]
''', «widht»AZ140 = 8, betas = [
    0.9, # ] not the end
    «"0.99"»AZ144,
], encoder = { path = "parts.Encoder", args.depth = «2.5»AZ144 } }

[model_d]
path = «"parts.Abstract"»AZ147

[optimizer_g]
path = "torch.optim.RAdam"
args.lr = 1e-3
args . «"weight_decy"»AZ140 = 1e-5

[optimizer_d]
path = «"torch.nn.Linear"»AZ146

[«optimizer_x»AZ108]
path = "torch.optim.SGD"
[optimizer_x.args]
«params»AZ142 = []

[[dataset]]
path = "parts.Data"
args.root = "x"
dataloader = { batch_size = 4, «batchsize»AZ102 = 8 }

[[dataset]]
path = "parts.Data"
[dataset.args]
root = «8»AZ144

«[[dataset]]»AZ141
path = "parts.Data"

[«loss_functions»AZ101]
path = "torch.nn.MSELoss"

[lr_scheduler_g]
path = "torch.optim.lr_scheduler.StepLR"
args.step_size = "«${acoustics.n_ftf}»AZ133"
"""


def remove_marks(marked):
    """Returns the text without marks, and the code, line, first and last column of each mistake in it."""
    text, expected = "", []
    for piece in re.split(r"(«[^»]*»AZ\d+)", marked):
        if match := re.fullmatch(r"«([^»]*)»(AZ\d+)", piece):
            line, column = text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1
            expected.append((match[2], line, column, column + len(match[1])))
        text += match[1] if match else piece
    return text, expected


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
def test_twenty_mistakes_are_reported_at_their_positions(tmp_path, newline):
    text, expected = remove_marks(MARKED)
    assert len(expected) == 20
    (tmp_path / "parts.py").write_text(PARTS)
    file = tmp_path / "exp.toml"
    file.write_bytes(text.replace("\n", newline).encode())
    with pytest.raises(ConfigError) as caught:
        check_config(load_config(file))
    found = [
        (finding.code, finding.span.line, finding.span.column, finding.span.end_column)
        for finding in caught.value.diagnostics
    ]
    assert found == expected
    assert str(caught.value).count("error[AZ") == 20
