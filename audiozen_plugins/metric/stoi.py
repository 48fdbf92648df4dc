"""The short-time objective intelligibility."""

from __future__ import annotations

import importlib
import math
import threading
import warnings

import numpy as np
from torch import Tensor

from audiozen_core.errors import MissingExtraError

_ONE_AT_A_TIME = threading.Lock()
_SHORTEST = 256 / 10_000
"""One frame of the measure, in seconds."""


class Stoi:
    """The short-time objective intelligibility, about 0 to 1 (Taal et al., 2011), by the package `pystoi`.

    The extended one draws a little noise; here it is always the same noise, so that a file has one value, and the
    global generator of NumPy is left as it was. NaN where too little of the file is speech (30 frames of 25.6 ms, after
    silence is taken out), the reference is silent, or a signal is not finite.

    Args:
        extended: whether to use the extended measure (Jensen and Taal, 2016), which is called `estoi`.

    Raises:
        MissingExtraError: pystoi is not installed.
    """

    unit = ""
    higher_is_better = True

    def __init__(self, extended: bool = False) -> None:
        try:
            importlib.import_module("pystoi")
        except ImportError as error:
            raise MissingExtraError("pystoi", extra="metrics", needed_by="the metric STOI") from error
        self.extended = extended
        self.name = "estoi" if extended else "stoi"
        self.label = self.name.upper()

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """The intelligibility.

        Raises:
            ValueError: the shapes differ.
        """
        if estimate.shape != reference.shape:
            raise ValueError(f"the shapes differ: {list(estimate.shape)} and {list(reference.shape)}")
        if reference.numel() <= (_SHORTEST + 0.01) * sr or not reference.any() or not estimate.isfinite().all():
            return math.nan
        from pystoi import stoi

        signals = reference.double().numpy(), estimate.double().numpy()
        # The filters for warnings and the generator belong to the whole process.
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            # pystoi warns, and answers 1e-5, where it has too little to go by.
            warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
            state = np.random.get_state()
            np.random.seed(0)
            try:
                return float(stoi(*signals, sr, extended=self.extended))
            except RuntimeWarning:
                return math.nan
            finally:
                np.random.set_state(state)
