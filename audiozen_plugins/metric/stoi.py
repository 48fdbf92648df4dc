"""The short-time objective intelligibility."""

from __future__ import annotations

import math
import warnings

import numpy as np
from torch import Tensor

from audiozen_core.errors import MissingExtraError


class Stoi:
    """The short-time objective intelligibility, about 0 to 1 (Taal et al., 2011), by the package `pystoi`.

    The extended one draws a little noise; here it is always the same noise, so that a file has one value. NaN where too
    little of the file is speech (30 frames of 25.6 ms, after silence is taken out).

    Args:
        extended: whether to use the extended measure (Jensen and Taal, 2016), which is called `estoi`.

    Raises:
        MissingExtraError: pystoi is not installed.
    """

    unit = ""
    higher_is_better = True

    def __init__(self, extended: bool = False) -> None:
        try:
            from pystoi import stoi
        except ImportError as error:
            raise MissingExtraError("pystoi", extra="metrics", needed_by="the metric STOI") from error
        self.extended = extended
        self.name = "estoi" if extended else "stoi"
        self.label = self.name.upper()
        self._stoi = stoi

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """The intelligibility."""
        state = np.random.get_state()
        np.random.seed(0)
        try:
            with warnings.catch_warnings():
                # pystoi warns, and answers 1e-5, where it has too little to go by.
                warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
                signals = reference.double().numpy(), estimate.double().numpy()
                return float(self._stoi(*signals, sr, extended=self.extended))
        except RuntimeWarning:
            return math.nan
        finally:
            np.random.set_state(state)
