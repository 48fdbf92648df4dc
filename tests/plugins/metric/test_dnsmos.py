"""DNSMOS gives the same scores as the package that contains its network."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
import torch

from audiozen_core.errors import DataError, MissingExtraError
from audiozen_plugins.metric.dnsmos import Dnsmos, network_windows

SR = 16000


def tone(seconds: float) -> torch.Tensor:
    time = torch.arange(int(seconds * SR)) / SR
    hiss = 0.02 * torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    return 0.3 * torch.sin(2 * math.pi * 200 * time) * torch.sin(2 * math.pi * 2 * time) + hiss


@pytest.mark.parametrize(("seconds", "count"), [(0.5, 7), (4.6, 1), (9.01, 1), (10.5, 1), (12.1, 3)])
def test_windows_start_one_second_apart_and_repeat_a_short_file(seconds, count):
    signal = np.arange(int(seconds * SR), dtype=np.float32)
    pieces = network_windows(signal)
    assert {window.shape for window in pieces} == {(144_160,)}
    assert len(pieces) == count
    assert [window[0] for window in pieces] == [index * SR % len(signal) for index in range(count)]


def test_error_names_the_missing_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="needs the package `speechmos`"):
        Dnsmos()


@pytest.fixture
def ready():
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    if importlib.util.find_spec("speechmos") is None:
        pytest.skip("speechmos is not installed")


@pytest.mark.usefixtures("ready")
def test_dnsmos_rejects_other_rates_and_is_nan_for_unusable_audio():
    with pytest.raises(DataError, match="needs 16000 Hz, but the audio has 8000 Hz"):
        Dnsmos()(tone(1), tone(1), sr=8000)
    assert math.isnan(Dnsmos()(tone(0), tone(0), sr=SR))
    assert math.isnan(Dnsmos()(tone(1) / 0, tone(1), sr=SR))


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("seconds", [3, 12.5])
def test_dnsmos_equals_the_scores_of_the_package(seconds):
    pytest.importorskip("librosa", reason="librosa, which the package itself needs, is not installed")
    from speechmos import dnsmos

    theirs = dnsmos.run(tone(seconds).numpy(), sr=SR)
    ours = {
        aspect: Dnsmos(aspect)(tone(seconds), tone(seconds), sr=SR) for aspect in ("overall", "signal", "background")
    }
    assert ours == pytest.approx(
        {"overall": theirs["ovrl_mos"], "signal": theirs["sig_mos"], "background": theirs["bak_mos"]}, abs=1e-4
    )
