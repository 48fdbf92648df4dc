"""An evaluation builds what it needs: neither optimisers nor schedulers, nor torch's compiler, which takes 70 MB."""

import subprocess
import sys

import pytest

from audiozen_core.experiment.experiment import Experiment
from tests.tiny_experiment import TOML, TinyExperiment

SCHEDULED = (
    TOML
    + """[lr_scheduler]
path = "torch.optim.lr_scheduler.ExponentialLR"
args.gamma = 0.5
"""
)


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path)


@pytest.mark.parametrize(
    ("modes", "count"),
    [(["test"], 0), (["validate"], 0), (["train"], 1), (["train", "test"], 1), (["test", "train"], 1)],
)
def test_optimisers_are_built_for_a_training_alone(tiny, modes, count):
    trainer, _ = tiny.build(text=SCHEDULED, modes=modes)
    assert [len(trainer.optimizers), len(trainer.lr_schedulers)] == [count, count]


def test_test_says_nothing_about_the_states_of_optimisers_and_restores_the_rest(tiny, capsys):
    tiny.run(text=SCHEDULED)
    capsys.readouterr()
    path = tiny.write(text=SCHEDULED)
    Experiment.load(path, modes=["test"]).run()
    assert "has states that nothing" not in capsys.readouterr().err
    trainer, _ = Experiment.load(path, modes=[]).load_trainer()
    assert len(trainer.optimizers) == 1, "a notebook gets all of them"


def test_test_does_not_import_the_compiler(tiny):
    tiny.run()
    code = (
        "import sys; from audiozen_core.experiment.experiment import Experiment; "
        f"Experiment.load({str(tiny.write())!r}, modes=['test']).run(); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.splitlines()[-1] == "False"
