"""Networks of spectra and of compressed magnitudes, and models that declare what they are given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audiozen.metric import SiSdr
from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.errors import ConfigError, RunError
from audiozen_core.experiment.dry_run import dry_run
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.testing.tiny import TinyExperiment
from audiozen_core.trainer.components import Components
from audiozen_plugins.trainer.domains import ModelDomain
from audiozen_plugins.trainer.enhancement import EnhancementTrainer

RATE = 16000
LAYOUTS = {"complex": (2, 257, 32), "channels_first": (2, 2, 257, 32), "channels_last": (2, 257, 32, 2)}
COMPRESSIONS = [None, 0.1, 0.3, 0.5, 0.7, 1.0, "log1p"]


class Gain(nn.Module):
    """Multiplies by one learned number."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.seen = []

    def forward(self, x):
        self.seen.append((x.shape, x.is_complex()))
        return self.gain * x


class Declares(Gain):
    domain = "spectrum"
    layout = "channels_last"
    acoustics = {"n_fft": 320, "win_length": 320, "hop_length": 160}  # noqa: RUF012


def make(model=None, loss=None, acoustics=None, **args):
    model = Gain() if model is None else model
    components = Components(
        {"": model},
        loss_functions={"": loss or nn.L1Loss()},
        optimizers={"": torch.optim.SGD(model.parameters(), lr=0.1)},
        acoustics=acoustics or Acoustics(),
        experiment="tones",
    )
    return EnhancementTrainer(components, **{"metrics": ["si_sdr"], **args})


def noise(length=8000, scale=0.2):
    return scale * torch.randn(2, length, generator=torch.Generator().manual_seed(0))


def speech_like(length):
    times = torch.arange(length) / RATE
    clean = 0.2 * torch.sin(2 * torch.pi * 220 * times) * torch.sin(2 * torch.pi * 3 * times).square()
    return clean + 0.02 * torch.randn(length, generator=torch.Generator().manual_seed(0)), clean


@pytest.mark.parametrize(("layout", "shape"), LAYOUTS.items())
def test_spectrum_is_passed_in_the_layout_of_the_model(layout, shape):
    trainer = make(domain="spectrum", layout=layout)
    wave, spectrum = trainer.enhance(noise())
    assert trainer.model.seen == [(torch.Size(shape), layout == "complex")]
    assert spectrum.shape == LAYOUTS["complex"]
    assert torch.equal(spectrum, trainer.stft(noise()))
    assert wave.shape == noise().shape


def test_layouts_have_the_real_part_first():
    spectrum = torch.tensor([[[3 + 4j, 5 - 6j]]])
    first = ModelDomain("spectrum", "channels_first").to_model(spectrum)
    last = ModelDomain("spectrum", "channels_last").to_model(spectrum)
    assert first.tolist() == [[[[3, 5]], [[4, -6]]]]
    assert last.tolist() == [[[[3, 4], [5, -6]]]]
    assert first.is_contiguous()
    for layout, given in (("channels_first", first), ("channels_last", last)):
        assert torch.equal(ModelDomain("spectrum", layout).from_model(given), spectrum)


SPECTRA = [
    Acoustics(),
    Acoustics(n_fft=400, win_length=400, hop_length=100, window="hamming", center=False),
    Acoustics(n_fft=512, win_length=320, hop_length=160, window="sqrt_hann", normalized=True),
    Acoustics(n_fft=320, win_length=320, hop_length=160, window="cosine", center=False, normalized=True),
]


@pytest.mark.parametrize("acoustics", SPECTRA, ids=str)
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(("domain", "layout"), [("magnitude", None), *(("spectrum", layout) for layout in LAYOUTS)])
def test_identity_gives_back_the_input_in_every_domain(domain, layout, compression, acoustics):
    """The score is equal to 1e-6 dB, and each sample to 1e-6."""
    noisy, clean = speech_like(7777)
    trainer = make(acoustics=acoustics, domain=domain, layout=layout, compression=compression)
    wave = trainer.enhance(noisy[None])[0][0].detach()
    score = SiSdr()
    assert score(wave, clean, sr=RATE) == pytest.approx(score(noisy, clean, sr=RATE), abs=1e-6)
    assert (wave - noisy).abs().max() < 1e-6


@pytest.mark.parametrize("compression", [0.3, "log1p"])
def test_compression_is_that_of_the_magnitudes_and_keeps_the_phase(compression):
    spectrum = torch.randn(1, 5, 7, dtype=torch.complex64)
    magnitude = ModelDomain("magnitude", compression=compression).to_model(spectrum)
    expected = spectrum.abs() ** 0.3 if compression == 0.3 else torch.log(1 + spectrum.abs())
    assert torch.allclose(magnitude, expected)
    compressed = ModelDomain("spectrum", compression=compression).to_model(spectrum)
    assert torch.allclose(compressed.abs(), expected)
    assert torch.allclose(compressed.angle(), spectrum.angle(), atol=1e-6)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(("domain", "layout"), [("magnitude", None), *(("spectrum", layout) for layout in LAYOUTS)])
def test_gradient_is_finite_for_silence_and_for_an_output_of_zero(domain, layout, compression):
    class Zero(Gain):
        def forward(self, x):
            return self.gain * x * 0

    for model, noisy in ((Gain(), torch.zeros(2, 4000)), (Zero(), noise(4000)), (Gain(), noise(4000))):
        trainer = make(model, domain=domain, layout=layout, compression=compression, loss_domain="waveform")
        trainer.compare(*trainer.enhance(noisy), noise(4000)).backward()
        assert model.gain.grad.isfinite()
        assert bool(model.gain.grad) == bool(noisy.any() and type(model) is Gain)


def test_delay_of_a_spectrum_model_is_removed():
    class Late(Gain):
        out_delay = 3
        domain = "spectrum"

        def forward(self, x):
            return nn.functional.pad(x, (3, 0))[..., : x.shape[-1]]

    trainer = make(Late())
    wave, spectrum = trainer.enhance(noise(8001))
    assert torch.allclose(wave, noise(8001), atol=1e-6)
    for loss_domain in ("magnitude", "spectrum", "features"):
        trainer = make(Late(), loss_domain=loss_domain)
        assert trainer.compare(wave, spectrum, noise(8001)) < 1e-5


class Spy(nn.Module):
    def forward(self, *signals):
        self.signals = signals
        return sum(signal.abs().mean() for signal in signals)


@pytest.mark.parametrize("model", ["waveform", "magnitude", "spectrum"])
@pytest.mark.parametrize(
    ("loss_domain", "shapes"),
    [
        ("waveform", [(2, 8000)] * 2),
        ("waveform_with_channel", [(2, 1, 8000)] * 2),
        ("magnitude", [(2, 257, 32)] * 2),
        ("spectrum", [(2, 257, 32)] * 2),
        ("features", [(2, 32, 257)] * 2),
        ("both", [(2, 8000)] * 2 + [(2, 257, 32)] * 2),
    ],
)
def test_loss_of_every_domain_fits_a_model_of_every_domain(model, loss_domain, shapes):
    """With an identity, the loss gets the same signals from each model, without compression."""
    loss = Spy()
    compression = None if model == "waveform" else 0.3
    trainer = make(loss=loss, domain=model, compression=compression, loss_domain=loss_domain)
    clean = noise().flip(0)
    trainer.compare(*trainer.enhance(noise()), clean)
    assert [tuple(signal.shape) for signal in loss.signals] == shapes
    complex_ones = [signal.is_complex() for signal in loss.signals]
    assert complex_ones == [loss_domain == "spectrum"] * len(shapes)
    estimate, target = loss.signals[-2:]
    assert torch.allclose(estimate, target.flip(0), atol=1e-4)
    assert make(domain="spectrum").loss_domains == ("spectrum",)


def test_loss_with_an_unknown_domain_is_an_error():
    loss = Spy()
    loss.domain = "wave"
    with pytest.raises(RunError, match="`domain` with 'wave', which no loss can compare"):
        make(loss=loss)
    assert make(loss=loss, loss_domain="waveform").loss_domains == ("waveform",)


# ------------------------------------------------------------------------------------------- declarations


def test_model_declares_its_domain_and_layout():
    trainer = make(Declares(), acoustics=Acoustics(n_fft=320, win_length=320, hop_length=160))
    trainer.enhance(noise())
    assert trainer.domain == "spectrum"
    assert trainer.model.seen[0][0] == (2, 161, 51, 2)


def test_without_a_declaration_a_model_is_given_magnitudes():
    assert make().model_domain == ModelDomain("magnitude", "complex", None)
    # Attributes with these names may mean something else.
    codec = type("Codec", (Gain,), {"compression": 8, "layout": "wide", "acoustics": nn.Identity()})
    assert make(codec()).model_domain == ModelDomain("magnitude", "complex", None)
    assert make(type("Root", (Gain,), {"compression": 0.5})()).model_domain == ModelDomain(compression=0.5)


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda model: torch.compile(nn.DataParallel(model))])
def test_declaration_is_found_behind_wrappers(wrap):
    acoustics = Acoustics(n_fft=320, win_length=320, hop_length=160)
    assert make(wrap(Declares()), acoustics=acoustics).model_domain == ModelDomain("spectrum", "channels_last")
    with pytest.raises(RunError, match="declares `n_fft = 320`, but \\[acoustics\\] has 512"):
        make(wrap(Declares()))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"domain": "magnitude"}, "`domain` in [trainer.args] is 'magnitude', but the model `Declares` declares 'spec"),
        ({"layout": "complex"}, "`layout` in [trainer.args] is 'complex', but the model `Declares` declares 'channels"),
    ],
)
def test_argument_that_contradicts_the_model_is_an_error(args, message):
    with pytest.raises(RunError) as caught:
        make(Declares(), acoustics=Acoustics(n_fft=320, win_length=320, hop_length=160), **args)
    assert caught.value.message.startswith(message)
    assert "leave" in caught.value.remedy


@pytest.mark.parametrize(
    ("attributes", "args", "message"),
    [
        ({"domain": "spectral"}, {}, "`domain = 'spectral'`, which is not a domain"),
        ({"domain": "spectrum", "layout": "last"}, {}, "`layout = 'last'`, which is not a layout"),
        ({"domain": "magnitude", "compression": 2.0}, {}, "`compression = 2.0`, which is not a compression"),
        ({}, {"layout": "channels_last"}, "`layout` has no effect on a model in the domain 'magnitude'"),
        ({"domain": "waveform"}, {"compression": 0.3}, "`compression` has no effect on a model in the domain 'wave"),
        ({}, {"compression": 0.01}, "`compression` is 0.01, but must be"),
    ],
)
def test_declaration_or_argument_that_is_wrong_is_an_error(attributes, args, message):
    model = type("Net", (Gain,), attributes)()
    with pytest.raises(RunError) as caught:
        make(model, **args)
    assert message in caught.value.message


class Wrapper(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def test_model_that_wraps_a_declaration_must_say_its_own():
    small = Acoustics(n_fft=320, win_length=320, hop_length=160)
    with pytest.raises(RunError, match=r"`Wrapper` does not declare its domain, but its part `inner` \(Declares\)"):
        make(Wrapper(Declares()), acoustics=small)
    with pytest.raises(RunError, match=r"`Wrapper` does not declare its acoustics, but its part `inner`"):
        make(Wrapper(Declares()), domain="spectrum", layout="channels_last")
    assert make(Wrapper(Declares()), acoustics=small, domain="spectrum", layout="channels_last").domain == "spectrum"
    # It may transform the wave itself.
    assert make(Wrapper(Declares()), domain="waveform").domain == "waveform"
    own = type("Own", (Wrapper,), {"domain": "spectrum", "acoustics": {"n_fft": 512}})
    assert make(own(Declares())).domain == "spectrum"


@pytest.mark.parametrize(
    ("layout", "output", "message"),
    [
        ("complex", lambda x: x.abs(), r"returns real numbers .* expected complex numbers \[2, 257, 32\]"),
        ("channels_last", lambda x: x[..., 0], r"returns \[2, 257, 32\] for .* expected \[2, 257, 32, 2\]"),
        ("channels_first", lambda x: x.movedim(1, -1), r"returns \[2, 257, 32, 2\] .* expected \[2, 2, 257, 32\]"),
    ],
)
def test_output_of_another_form_is_an_error(layout, output, message):
    class Wrong(Gain):
        def forward(self, x):
            return output(self.gain * x)

    with pytest.raises(RunError, match=message):
        make(Wrong(), domain="spectrum", layout=layout).enhance(noise())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_spectrum_model_may_return_complex_numbers_and_axes_of_size_one(layout):
    class Complex(Gain):
        def forward(self, x):
            spectrum = ModelDomain("spectrum", layout).from_model(x)
            return (self.gain * spectrum).unsqueeze(1)

    wave, _ = make(Complex(), domain="spectrum", layout=layout).enhance(noise())
    assert torch.allclose(wave, noise(), atol=1e-6)


# ------------------------------------------------------------------------------------------- whole experiments

NET = """
import torch
from torch import nn


class Mask(nn.Module):
    domain = "spectrum"
    layout = "channels_first"
    compression = 0.5
    acoustics = {"n_fft": 128, "win_length": 128, "hop_length": 64, "window": "sqrt_hann"}

    def __init__(self, width: int = 4):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(2, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 2, 3, padding=1))

    def forward(self, x):
        mask = torch.complex(*self.net(x).unbind(1))
        masked = mask * torch.complex(*x.unbind(1))
        return torch.stack([masked.real, masked.imag], dim=1)
"""


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    found = TinyExperiment(tmp_path).set("model", "net.Mask")
    del found.values["acoustics"]
    return found


def test_model_that_declares_everything_trains_resumes_and_is_tested(tiny):
    tiny.set("loss_function", "si_snr")
    outcome = tiny.run("train", "test")
    losses = outcome.metrics("train/loss")
    assert len(losses) == 2
    assert losses[1] < losses[0]
    tiny.set("trainer", max_epochs=3)
    assert len(tiny.run("train", resume=True).metrics("train/loss")) == 3
    assert Experiment.load(tiny.write()).checked.config.acoustics == Acoustics(
        n_fft=128, win_length=128, hop_length=64, window="sqrt_hann"
    )


def test_check_build_runs_a_spectrum_model(tiny):
    facts = dry_run(Experiment.load(tiny.write()))
    assert "loss" in facts["loss"]


@pytest.mark.parametrize(
    ("section", "args", "line", "message"),
    [
        ("trainer", {"domain": "magnitude"}, 'domain = "magnitude"', "`domain` in [trainer.args] is 'magnitude', but"),
        ("trainer", {"compression": 0.3}, "compression = 0.3", "`compression` in [trainer.args] is 0.3, but the model"),
        ("acoustics", {"n_fft": 512}, "n_fft = 512", "`n_fft` is 512, but `net.Mask` declares 128"),
    ],
)
def test_check_finds_a_contradiction_at_its_line(tiny, section, args, line, message):
    if section == "acoustics":
        tiny.values["acoustics"] = args
    else:
        tiny.set(section, **args)
    path = tiny.write()
    with pytest.raises(ConfigError) as caught:
        check_config(load_config(path))
    (finding,) = caught.value.diagnostics
    assert finding.code == ("AZ107" if section == "acoustics" else "AZ149")
    assert finding.message.startswith(message)
    assert path.read_text().splitlines()[finding.span.line - 1] == line


def test_check_refuses_an_inverse_that_is_not_exact_for_a_model_that_declares_its_domain(tiny):
    (tiny.folder / "net.py").write_text(NET.replace('"hop_length": 64', '"hop_length": 120'))
    with pytest.raises(ConfigError) as caught:
        check_config(load_config(tiny.write()))
    (finding,) = caught.value.diagnostics
    assert "can't be inverted to 1e-6: a sqrt_hann window of 128 samples every 120 samples" in finding.message


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_parts_become_complex_numbers_however_they_lie_in_memory(layout):
    parts = torch.randn(2, 5, 6, 2, generator=torch.Generator().manual_seed(0))
    expected = torch.complex(parts[..., 0], parts[..., 1])
    domain = ModelDomain("spectrum", layout)
    shifted = torch.zeros(parts.numel() + 1)[1:].view_as(parts).copy_(parts)  # begins at an odd place
    stretched = torch.zeros(2, 5, 6, 3)[..., :2].copy_(parts)
    turned = parts.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    for given in (parts, shifted, stretched, turned, parts.transpose(1, 2).contiguous().transpose(1, 2)):
        output = given.movedim(-1, 1) if layout == "channels_first" else given
        assert torch.equal(domain.from_model(output), expected)
    # Only the usual form is viewed instead of copied.
    output = parts.movedim(-1, 1) if layout == "channels_first" else parts
    assert domain.from_model(output).data_ptr() == parts.data_ptr()
