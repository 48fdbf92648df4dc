"""A finetuning starts from the weights of a trained loss too, or the log says why not."""

import pytest

from tests.tiny_experiment import TinyExperiment

PARTS = """
class Scales(nn.Module):
    def __init__(self, size: int = 1):
        super().__init__()
        self.log_var = nn.Parameter(torch.zeros(size))
        self.norm = nn.BatchNorm1d(1)

    def forward(self, output, target):
        error = (self.norm(output) - target).square().mean()
        return (torch.exp(-self.log_var) * error + self.log_var).sum()
"""
LOSS = '[loss_function]\npath = "torch.nn.MSELoss"'
STILL = ('"torch.optim.Adam"\nargs.lr = 0.1', '"torch.optim.SGD"\nargs.lr = 0.0')


def loss(text="trainable = true"):
    return LOSS, f'[loss_function]\npath = "parts.Scales"\n{text}'


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


def tune(tiny, *changes):
    path = tiny.folder / "exp/base/checkpoints/latest"
    return tiny.run(STILL, *changes, name="tuned", modes=("finetune",), ckpt_path=str(path))


def test_finetuning_starts_from_the_weights_of_the_loss(tiny, capsys):
    base = tiny.run(loss(), name="base")["loss_function"]
    assert base["log_var"].abs() > 0.1  # otherwise the comparison would show nothing
    tuned = tune(tiny, loss())["loss_function"]
    assert tuned["log_var"].equal(base["log_var"])
    assert tuned["norm.num_batches_tracked"] == 2 * base["norm.num_batches_tracked"]
    assert "the weights of [loss_function] are loaded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ([loss()], [], "the weights of [loss_function] are not loaded: the weights do not fit"),
        ([loss()], [loss("trainable = true\nargs.size = 2")], "[loss_function] are not loaded: the weights do not fit"),
        ([loss()], [loss("trainable = false")], "[loss_function] are not loaded: the loss is frozen in this run"),
        (
            [],
            [loss()],
            "[loss_function] keeps the weights that it was built with, because the checkpoint has none for it",
        ),
        ([], [], ""),
    ],
)
def test_loss_that_starts_with_other_weights_is_a_warning(tiny, capsys, before, after, text):
    tiny.run(*before, name="base")
    capsys.readouterr()
    state = tune(tiny, *after).get("loss_function")
    log = capsys.readouterr().err
    assert text in log
    assert ("warning" in log.lower()) == bool(text)
    assert state is None or not state["log_var"].any()
