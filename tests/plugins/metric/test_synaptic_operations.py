"""Synaptic operations equal a count by hand, and a test of a spiking network reports them."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from audiozen.metric import SynapticOperations
from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.errors import RunError
from audiozen_core.scoring.over_speakers import MeanOverSpeakers
from audiozen_plugins.model.gated_spiking import GatedSpikingModel
from audiozen_plugins.model.sdnn import SDNN
from audiozen_plugins.model.sigma_delta import STEPS_PER_UNIT, Synapse
from tests.plugins.trainer.test_file_by_file import Norm, loader, make, results

SR = 16000


def counted(model, *inputs):
    """Returns the operations of one call, for an estimate of one second."""
    metric = SynapticOperations()
    with metric.watch(model):
        model(*inputs)
        return round(1e6 * metric(torch.ones(SR), sr=SR, noisy=torch.zeros(SR)))


def test_each_change_of_a_level_costs_an_operation_for_each_output():
    # Levels of two neurons in four frames. The first changes in frames 0, 1 and 3, the second never.
    levels = STEPS_PER_UNIT * torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]])[..., None]
    assert counted(Synapse(2, 5), levels) == 3 * 5


def test_operations_of_gated_spiking_layers_are_those_of_a_loop():
    torch.manual_seed(0)
    model = GatedSpikingModel(3, 4, 2, shared_weights=False, bn=False).eval()
    x = torch.randn(6, 1, 3).relu()
    outputs = []
    for layer in model.sequence_model.layers:
        layer.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    found = counted(model, x)
    expected = 0
    for inputs, spikes in ((x, outputs[0]), (outputs[0], outputs[1])):
        for frame in range(6):
            expected += sum(8 for one in inputs[frame, 0] if one != 0)  # gate and potential of 4 neurons
            expected += sum(8 for one in spikes[frame - 1, 0] if frame and one != 0)
    expected += sum(2 for frame in range(6) for one in outputs[1][frame, 0] if one != 0)
    assert found == expected > 0


def test_sdnn_costs_less_with_a_higher_threshold_and_never_more_than_a_dense_network():
    noisy = torch.rand(1, 9, 50, generator=torch.Generator().manual_seed(0))
    low, high = (counted(SDNN(threshold, num_freqs=9, hidden_size=16).eval(), noisy) for threshold in (0.02, 0.5))
    dense = 50 * (9 * 16 + 16 * 16 + 16 * 9)
    assert 0 <= high < low <= dense


def test_operations_are_for_a_second_and_begin_anew_with_each_file():
    metric, model = SynapticOperations(), Synapse(1, 3)
    levels = torch.tensor([[1.0, 2.0]])[..., None]
    with metric.watch(model):
        model(levels)
        assert metric(torch.ones(SR // 2), sr=SR, noisy=torch.zeros(SR // 2)) == 2 * 3 * 2 / 1e6
        assert metric(torch.ones(SR), sr=SR, noisy=torch.zeros(SR)) == 0
        model(levels)
    model(levels)  # no longer watched
    assert len(metric._counts) == 1


def test_noisy_signal_costs_nothing():
    metric, wave = SynapticOperations(), torch.ones(10)
    assert metric(wave, sr=SR, noisy=wave.clone()) == 0


def test_network_without_spikes_and_a_metric_without_a_network_are_errors(tmp_path):
    with (
        pytest.raises(RunError, match="no module of Linear counts its operations"),
        SynapticOperations().watch(nn.Linear(1, 1)),
    ):
        pass
    with pytest.raises(RunError, match="needs the network"):
        SynapticOperations()(torch.ones(10), sr=SR)
    with pytest.raises(RunError, match="no module of Norm counts its operations"):
        make(tmp_path, Norm(), metrics=["synaptic_operations"]).test([loader()])


def test_test_of_an_sdnn_reports_its_operations_and_validation_refuses_them(tmp_path):
    acoustics = Acoustics(n_fft=256, win_length=256, hop_length=128)
    torch.manual_seed(0)
    model = SDNN(0.02, num_freqs=129, hidden_size=8)
    trainer = make(tmp_path, model, domain="magnitude", acoustics=acoustics, metrics=["si_sdr", "synaptic_operations"])
    before = [len(module._forward_hooks) for module in model.modules()]
    trainer.test([loader()])
    content = json.loads((results(tmp_path) / "scores.json").read_text())
    assert content["all"]["synaptic_operations"]["noisy"] == 0
    assert 0 < content["all"]["synaptic_operations"]["enhanced"] < math.inf
    assert [len(module._forward_hooks) for module in model.modules()] == before
    scored = make(tmp_path / "b", model, domain="magnitude", acoustics=acoustics, score="synaptic_operations",
                  save_max_score=False)  # fmt: skip
    with pytest.raises(RunError, match="which only a test can do"):
        scored.train(loader(), [loader()])


def test_mean_over_speakers_watches_too():
    assert MeanOverSpeakers(SynapticOperations()).needs == ("noisy", "network")
    assert hasattr(MeanOverSpeakers(SynapticOperations()), "watch")
