"""STOI, the short-time objective intelligibility."""

from __future__ import annotations

import importlib.util
import math
import threading
import warnings

import numpy as np
from torch import Tensor

from audiozen_core.errors import MissingExtraError
from audiozen_plugins.metric.comparable import comparable

_ONE_AT_A_TIME = threading.Lock()
_SHORTEST = 256 / 10_000
"""The length of a frame of STOI, in seconds."""


class Stoi:
    """STOI, from about 0 to 1, computed by the package `pystoi`.

    The extended STOI adds a little random noise. Here the noise is always the same, so that a file always has the same
    value. The state of NumPy's global generator is restored. The value is NaN if fewer than 30 frames of 25.6 ms remain
    after `pystoi` has removed silence, or if a signal is silent or not finite.

    Taal et al., "An Algorithm for Intelligibility Prediction of Time-Frequency Weighted Noisy Speech", IEEE TASLP 2011.
    Jensen and Taal, "An Algorithm for Predicting the Intelligibility of Speech Masked by Modulated Noise Maskers", IEEE
    TASLP 2016.

    Args:
        extended: whether to use the extended STOI, which is called `estoi`.

    Raises:
        MissingExtraError: pystoi is not installed.
    """

    unit = ""
    higher_is_better = True
    packages = ("pystoi",)
    modules = ("pystoi",)
    computed_at = 10_000

    def __init__(self, extended: bool = False) -> None:
        # The package is located but not imported, so that training does not wait for the import.
        if importlib.util.find_spec("pystoi") is None:
            raise MissingExtraError("pystoi", extra="stoi", needed_by="the metric STOI")
        self.extended = extended
        self.name = "estoi" if extended else "stoi"
        self.label = self.name.upper()

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """Computes the intelligibility of the estimate [time] against the reference [time].

        Raises:
            ValueError: the shapes differ.
        """
        if not comparable(estimate, reference) or reference.numel() <= (_SHORTEST + 0.01) * sr:
            return math.nan
        from pystoi import stoi

        signals = reference.double().numpy(), estimate.double().numpy()
        # The lock is needed because all threads share the warning filters and the random generator.
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            # If too few frames are left, pystoi warns and returns 1e-5.
            warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
            state = np.random.get_state()
            np.random.seed(0)
            try:
                return float(stoi(*signals, sr, extended=self.extended))
            except RuntimeWarning:
                return math.nan
            finally:
                np.random.set_state(state)


class Estoi(Stoi):
    """Extended STOI, from about 0 to 1: `stoi` with `extended = true`, under its own name.

    Raises:
        MissingExtraError: pystoi is not installed.
    """

    same_as = Stoi

    def __init__(self) -> None:
        super().__init__(extended=True)
