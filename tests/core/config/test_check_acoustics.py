"""`[acoustics]` is joined with what the models declare, and each contradiction is found at its line."""

from __future__ import annotations

import pytest

from audiozen_core.audio.acoustics import Acoustics, contradictions, declared_acoustics
from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.errors import ConfigError

PARTS = """
import functools
import torch
from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.trainer.base_trainer import BaseTrainer


class Trainer(BaseTrainer):
    seen = []

    def training_step(self, batch, batch_idx): ...

    @classmethod
    def check_settings(cls, args, *, acoustics, models):
        cls.seen.append((acoustics, models))
        return ()


class Plain(torch.nn.Module):
    pass


class Small(torch.nn.Module):
    acoustics = {"n_fft": 320, "win_length": 320, "hop_length": 160}


class Child(Small):
    pass


class Whole(torch.nn.Module):
    acoustics = Acoustics(sr=8000, n_fft=256, win_length=256, hop_length=64, window="sqrt_hann")


class Holds(torch.nn.Module):
    acoustics = torch.nn.Linear(1, 1)


class Computed(torch.nn.Module):
    acoustics = property(lambda self: {"n_fft": 64})


class Typing(torch.nn.Module):
    acoustics = {"n_ftt": 320, "hop_length": "160", "win_length": 0, "window": "hnn"}


def build(width: int = 1) -> Small: ...


class Data(torch.utils.data.Dataset):
    def __init__(self, sr: int = 16000): ...
"""

TEXT = """\
[meta]
save_dir = "exp"
[trainer]
path = "parts.Trainer"
[model]
path = "parts.Plain"
[loss_function]
path = "torch.nn.L1Loss"
[optimizer]
path = "torch.optim.Adam"
[dataset]
path = "parts.Data"
"""


@pytest.fixture
def check(tmp_path):
    (tmp_path / "parts.py").write_text(PARTS)

    def check(model="Plain", acoustics="", more=""):
        path = tmp_path / "exp.toml"
        section = f"[acoustics]\n{acoustics}\n" if acoustics else ""
        path.write_text(TEXT.replace("parts.Plain", f"parts.{model}") + more + section)
        return check_config(load_config(path))

    return check


def errors_of(check, *args, **options):
    with pytest.raises(ConfigError) as caught:
        check(*args, **options)
    return [(found.code, found.span.line, found.message) for found in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Plain", Acoustics()),
        ("Holds", Acoustics()),
        ("Computed", Acoustics()),
        ("Small", Acoustics(n_fft=320, win_length=320, hop_length=160)),
        ("Child", Acoustics(n_fft=320, win_length=320, hop_length=160)),
        ("build", Acoustics(n_fft=320, win_length=320, hop_length=160)),
        ("Whole", Acoustics(sr=8000, n_fft=256, win_length=256, hop_length=64, window="sqrt_hann")),
    ],
)
def test_settings_that_a_model_declares_need_not_be_in_the_file(check, model, expected):
    checked = check(model)
    assert checked.config.acoustics == expected
    trainer = checked.components[("trainer",)].target
    acoustics, models = trainer.seen[-1]
    assert acoustics == expected
    assert models[""].__name__ == {"build": "Small"}.get(model, model)


def test_file_may_repeat_or_add_to_what_a_model_declares(check):
    acoustics = check("Small", "n_fft = 320\nsr = 8000").config.acoustics
    assert acoustics == Acoustics(sr=8000, n_fft=320, win_length=320, hop_length=160)


def test_what_a_model_declares_is_in_the_effective_config(check, tmp_path):
    config = check("Small", "sr = 8000").config
    saved = tmp_path / "saved.toml"
    saved.write_text(config.text)
    assert load_config(saved).composition.values["acoustics"] == {
        "sr": 8000,
        "n_fft": 320,
        "win_length": 320,
        "hop_length": 160,
    }
    assert check_config(load_config(saved)).config.text == config.text
    assert "acoustics" not in check("Plain").config.text
    # A later change of the class contradicts the saved file.
    saved.write_text(config.text.replace("parts.Small", "parts.Whole"))
    with pytest.raises(ConfigError, match="n_fft"):
        check_config(load_config(saved))


def test_contradiction_of_the_file_and_the_model_is_found_at_its_line(check):
    (found,) = errors_of(check, "Small", "sr = 16000\nn_fft = 512")
    assert found == ("AZ107", 15, "`n_fft` is 512, but `parts.Small` declares 320")


def test_two_models_that_contradict_each_other_are_found_at_the_second(check):
    more = "[model_b]\npath = 'parts.Whole'\n[optimizer_b]\npath = 'torch.optim.Adam'\n"
    found = errors_of(check, "Small", more=more)
    assert {(code, line) for code, line, _ in found} == {("AZ107", 14)}
    assert found[0][2] == "`parts.Whole` declares `n_fft = 256`, but `parts.Small` declares 320"


def test_wrong_declarations_are_found_at_the_model(check):
    found = errors_of(check, "Typing")
    assert {line for _, line, _ in found} == {6}
    messages = " ".join(message for _, _, message in found)
    for part in ("`n_ftt`", "hop_length", "`win_length` of [acoustics] is 0", "`window` is `hnn`, but must be one of"):
        assert part in messages
    assert len(found) == 4


def test_rate_of_a_data_set_is_compared_with_what_the_model_declares(check):
    (found,) = errors_of(check, "Whole", more="args.sr = 16000\n")
    assert found == ("AZ107", 13, "`sr` of `parts.Data` is 16000, but 8000 in `[acoustics]`")
    check("Whole", more="args.sr = 8000\n")


@pytest.mark.parametrize(
    ("model", "acoustics", "expected"),
    [
        ("Plain", "win_length = 1024", [("AZ107", 14)]),
        ("Plain", "n_fft = 256", [("AZ107", 14)]),
        ("Plain", "hop_length = 513", [("AZ107", 14)]),
        ("Plain", "n_fft = 'x'\nwin_length = 1024\nhop_length = 2000", [("AZ105", 14), ("AZ107", 16)]),
        ("Small", "sr = 8000\nwin_length = 512", [("AZ107", 15)] * 2),
        ("Plain", "window = 'kaiser'\nwindow_args = {beta = 8.0}", []),
        ("Plain", "window = 'gaussian'", [("AZ106", 14)]),
        ("Plain", "window = 'hann'\nwindow_args.beta = 8.0", [("AZ106", 15)]),
        ("Plain", "window_args = 8.0", [("AZ105", 14)]),
        ("Plain", "center = 'no'", [("AZ105", 14)]),
        ("Plain", "center = false\nnormalized = true", []),
    ],
)
def test_settings_that_do_not_fit_together_are_found_at_their_lines(check, model, acoustics, expected):
    if not expected:
        check(model, acoustics)
        return
    assert [found[:2] for found in errors_of(check, model, acoustics)] == expected


def test_declarations_are_compared_with_settings():
    class Net:
        acoustics = {"n_fft": 320, "other": 1}  # noqa: RUF012

    assert contradictions(declared_acoustics(Net()), Acoustics()) == {"n_fft": (320, 512)}
    assert contradictions(declared_acoustics(Net), Acoustics(n_fft=320)) == {}
    assert hash(Acoustics(window_args={"beta": 8.0})) == hash(Acoustics())
