"""A step that was trained on a GPU is made again on it, to the last digit."""

import pytest
import torch

from audiozen_core.hooks.nonfinite import NonFiniteError
from audiozen_core.replay.replay import replay
from audiozen_core.replay.target import BatchPosition, Target
from tests.core.replay.waves import WaveExperiment, recorded

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
ON_GPU = ('device = "cpu"', 'device = "cuda"')


@pytest.mark.parametrize("amp", ["false", "true"])
def test_the_loss_is_the_recorded_one(tmp_path, amp):
    parts = WaveExperiment(tmp_path)
    (tmp_path / "parts.py").write_text((tmp_path / "parts.py").read_text().replace(".numpy()", ".cpu().numpy()"))
    run = parts.train(ON_GPU, ("seed = 3", f"seed = 3\nuse_amp = {amp}"))
    found = replay(run, Target(BatchPosition(3, 2)), step=True)
    assert found.step.scalars["loss"] == recorded(run)[11]["step/loss"]
    # The gradient of the loss itself is 1, whatever the scaler multiplies it with.
    assert found.step.rows[-1].output_gradient.norm == pytest.approx(1)


def test_the_command_names_the_batch_of_the_loss(tmp_path):
    experiment = WaveExperiment(tmp_path)
    (tmp_path / "parts.py").write_text((tmp_path / "parts.py").read_text().replace(".numpy()", ".cpu().numpy()"))
    broken = ("log_interval = 1", "log_interval = 1\nnan_in = [2, 1]\nin_loss = true")
    with pytest.raises(NonFiniteError) as raised:
        experiment.train(ON_GPU, broken)
    assert raised.value.remedy.endswith("--epoch 2 --batch 1 --step")
