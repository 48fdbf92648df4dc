import copy
import math

import pytest
import torch
from torch import nn

from audiozen.loss import SiSnrLoss
from audiozen.model import FlowNet
from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import ConfigError, RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.testing.tiny import TinyExperiment
from audiozen_core.trainer.components import Components
from audiozen_plugins.trainer.flow import FlowTrainer
from audiozen_plugins.trainer.flow_sampling import sample
from tests.plugins.trainer.states import assert_same


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_error_of_a_sampler_falls_with_its_order(sampler, order):
    def error(steps):
        # The solution of x' = x + t with x(0) = 1 is 2 e^t - t - 1.
        state = torch.ones(1, dtype=torch.float64)
        found = sample(lambda state, time: state + time, state, steps=steps, sampler=sampler)
        return abs(float(found) - (2 * math.e - 2))

    assert error(20) / error(40) == pytest.approx(2**order, rel=0.05)


@pytest.mark.parametrize(
    ("sampler", "times"),
    [("euler", [0, 0.5]), ("midpoint", [0, 0.25, 0.5, 0.75]), ("heun", [0, 0.5, 0.5, 1])],
)
def test_sampler_asks_for_the_velocity_at_its_times(sampler, times):
    asked = []
    sample(lambda state, time: asked.append(time) or state, torch.ones(1), steps=2, sampler=sampler)
    assert asked == times


def test_sampler_with_zero_steps_is_refused():
    with pytest.raises(ValueError, match="at least one step, not 0"):
        sample(lambda state, time: state, torch.ones(1), steps=0, sampler="euler")


class Still(nn.Module):
    """The velocity is 0, so the result is the noisy signal with its noise."""

    domain = "spectrum"
    layout = "channels_last"

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.times, self.shapes = [], []

    def forward(self, state, noisy, time):
        self.times.append(time.tolist())
        self.shapes.append((state.shape, noisy.shape))
        return self.weight * state


class Oracle(Still):
    """Knows the clean states, and leads each state to them on a straight line."""

    def forward(self, state, noisy, time):
        return (self.target - state) / (1 - time[:, None, None, None]) + self.weight * state


def make(model=None, loss=None, **args):
    torch.manual_seed(0)
    model = model or Still()
    components = Components(
        {"": model},
        loss_functions={"": loss or nn.MSELoss()},
        optimizers={"": torch.optim.Adam(model.parameters(), lr=0.01)},
        acoustics=Acoustics(n_fft=128, win_length=128, hop_length=64),
    )
    return FlowTrainer(components, **{"metrics": [], "max_epochs": 1, **args})


def signals(count=2, length=1000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    clean = torch.sin(torch.arange(length) * torch.linspace(0.1, 0.4, count)[:, None])
    return clean + 0.3 * torch.randn(count, length, generator=generator), clean


def oracle(**args):
    model = Oracle()
    trainer = make(model, **args)
    noisy, clean = signals()
    _, scale = trainer._state(noisy)
    model.target = torch.view_as_real(trainer._compressed(clean) / scale)
    return trainer, noisy, clean


@pytest.mark.parametrize(("sampler", "steps"), [("euler", 1), ("euler", 7), ("midpoint", 3)])
@pytest.mark.parametrize("compression", [1.0, 0.3, "log1p"])
def test_true_velocity_leads_to_the_clean_signal(sampler, steps, compression):
    trainer, noisy, clean = oracle(sampler=sampler, sampling_steps=steps, compression=compression)
    wave, spectrum = trainer.enhance(noisy)
    torch.testing.assert_close(wave, clean, rtol=0, atol=2e-4)
    torch.testing.assert_close(spectrum, trainer.stft(clean), rtol=0, atol=2e-3)
    # Without it, the result is far away.
    wave, _ = make(sampler=sampler, sampling_steps=steps, compression=compression).enhance(noisy)
    assert (wave - clean).abs().max() > 0.3


def test_true_velocity_has_no_loss():
    trainer, noisy, clean = oracle()
    assert trainer.flow_loss(noisy, clean) < 1e-8
    # The velocity `s - y - sigma z` of white noise has a mean square of at least `sigma²` in each complex number.
    assert make(sigma=2.0).flow_loss(noisy, clean) > 2.0**2 / 2 * 0.8


def test_level_of_the_file_changes_nothing():
    noisy, _ = signals()
    for compression in (0.5, 1.0):
        quiet, loud = (make(compression=compression).enhance(gain * noisy)[0] for gain in (1, 10))
        torch.testing.assert_close(10 * quiet, loud, rtol=1e-4, atol=1e-4)


def test_added_noise_has_the_variance_of_sigma():
    noisy, _ = signals(1, 50000)
    trainer = make(sigma=0.7)
    state, _ = trainer._state(noisy)
    assert float(state.abs().square().mean()) == pytest.approx(1, abs=1e-5)
    noise = 0.7 * trainer._noise(state, None)
    assert float(noise.real.var()) == pytest.approx(0.7**2 / 2, rel=0.02)
    assert float(noise.imag.var()) == pytest.approx(0.7**2 / 2, rel=0.02)


def file(index, waves):
    return {"noisy": waves[index : index + 1], "id": [f"file {index}"]}


def test_noise_of_a_file_depends_on_its_id_and_the_seed_only():
    waves, _ = signals(3)
    trainer = make()
    first = [trainer.enhance_batch(file(index, waves))[0] for index in range(3)]
    torch.rand(5)  # what else was drawn changes nothing
    again = [trainer.enhance_batch(file(index, waves))[0] for index in (2, 1, 0)][::-1]
    both = trainer.enhance_batch({"noisy": waves, "id": ["file 0", "file 1", "file 2"]})[0]
    for index in range(3):
        assert torch.equal(first[index], again[index])
        torch.testing.assert_close(first[index][0], both[index])
    other = make(sampling_seed=1).enhance_batch(file(0, waves))[0]
    assert not torch.allclose(first[0], other, atol=1e-2)
    renamed = trainer.enhance_batch({"noisy": waves[:1], "id": ["another"]})[0]
    assert not torch.allclose(first[0], renamed, atol=1e-2)


def test_validation_and_test_have_their_own_numbers_of_steps():
    model = Still()
    trainer = make(model, sampler="euler", sampling_steps=4, validation_sampling_steps=2, metrics=["si_sdr"])
    noisy, clean = signals(1)
    loader = BatchLoader([{"noisy": noisy[0], "clean": clean[0], "id": "one"}])
    trainer.validate([loader])
    first = model.times.copy()
    # Two steps, and the loss at a time that the ID determines.
    assert first[:2] == [[0.0], [0.5]]
    assert len(first) == 3
    trainer.validate([loader])
    assert model.times[3:] == first
    model.times.clear()
    trainer.prepare_batch({"noisy": noisy, "clean": clean, "id": ["one"]}, "test")
    trainer.enhance_batch({"noisy": noisy, "id": ["one"]})
    assert model.times == [[0.0], [0.25], [0.5], [0.75]]
    assert model.shapes[0] == ((1, 65, 16, 2), (1, 65, 16, 2))


def test_small_network_learns_to_lower_the_loss_and_the_noise():
    noisy, clean = signals(4, 400)
    pairs = [{"noisy": noisy[index], "clean": clean[index], "id": str(index)} for index in range(4)]
    trainer = make(FlowNet(6, 2, 1), max_epochs=30, sigma=0.3)

    def loss():
        return float(torch.stack([trainer.flow_loss(noisy, clean) for _ in range(8)]).mean())

    with torch.no_grad():
        before = loss()
        start, _ = trainer.enhance(noisy)
    trainer.train(BatchLoader(pairs, batch_size=4))
    with torch.no_grad():
        assert loss() < before / 2
        wave, _ = trainer.enhance(noisy)
    assert (wave - clean).square().mean() < 0.75 * (start - clean).square().mean()


def test_model_and_loss_of_another_domain_are_refused():
    with pytest.raises(RunError, match="compares velocities"):
        make(loss=SiSnrLoss())
    model = Still()
    model.domain = "waveform"
    with pytest.raises(RunError, match="the model declares `domain = 'waveform'`"):
        make(model)
    late = Still()
    late.out_delay = 1
    with pytest.raises(RunError, match="can't remove the delay"):
        make(late)


def test_mixed_precision_changes_little():
    noisy, clean = signals()
    trainer = make(FlowNet(6, 2, 1))
    nn.init.normal_(trainer.model.leave.weight, std=0.1)
    results = []
    for enabled in (False, True):
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            generators = [trainer.generator_of("one"), trainer.generator_of("two")]
            results.append((trainer.enhance(noisy)[0], trainer.flow_loss(noisy, clean, generators)))
    (wave, loss), (half, half_loss) = results
    assert half.dtype == half_loss.dtype == torch.float32
    assert not torch.equal(wave, half)
    assert (wave - half).abs().max() < 0.1 * wave.abs().max()
    assert float(half_loss) == pytest.approx(float(loss), rel=0.05)


# ------------------------------------------------------------------------------- from a TOML file


def experiment(folder, **trainer):
    tiny = TinyExperiment(folder)
    tiny.values["trainer"] = {"path": "flow", "args": {"max_epochs": 2, "metrics": ["si_sdr"], **trainer}}
    tiny.values["model"] = {"path": "flow_net", "args": {"channels": 4, "levels": 2, "blocks": 2}}
    tiny.values["loss_function"] = {"path": "torch.nn.MSELoss"}
    return tiny


def test_resumed_run_is_the_same_to_the_last_bit(tmp_path):
    tiny = experiment(tmp_path, save_ckpt_interval_steps=1, max_num_checkpoints=10, validation_sampling_steps=1)
    tiny.run()
    store = CheckpointStore(tmp_path / "exp/tiny/checkpoints")
    whole = copy.deepcopy(store.load("latest").state)
    outcome = tiny.run(resume=True, ckpt_path="epoch_0001_step_0000001")
    assert_same(whole, store.load("latest").state)
    assert len(set(outcome.metrics("train/loss"))) == 2


def problems(tiny):
    with pytest.raises(ConfigError) as caught:
        Experiment.load(tiny.write(), modes=["train"])
    return [finding.message for finding in caught.value.diagnostics if finding.severity == "error"]


def test_check_finds_a_sampler_with_zero_steps(tmp_path):
    for argument in ("sampling_steps", "validation_sampling_steps"):
        tiny = experiment(tmp_path, **{argument: 0})
        (message,) = problems(tiny)
        assert argument in message
        assert "must be at least 1" in message
    assert not (tmp_path / "exp").exists()


def test_check_finds_arguments_and_models_that_do_not_fit(tmp_path):
    (message,) = problems(experiment(tmp_path, domain="magnitude"))
    assert "`domain`" in message
    (message,) = problems(experiment(tmp_path, sampler="rk4"))
    assert "rk4" in message
    tiny = experiment(tmp_path)
    tiny.values["loss_function"] = {"path": "si_snr"}
    (message,) = problems(tiny)
    assert message.startswith("the trainer `flow` compares velocities")
    tiny = experiment(tmp_path)
    tiny.values["acoustics"] |= {"hop_length": 128}
    (message,) = problems(tiny)
    assert "can't be inverted" in message
