"""The word error rate of a speech recogniser that runs offline."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from audiozen_core.errors import MissingExtraError
from audiozen_core.registry import torchaudio_loader
from audiozen_plugins.metric.comparable import comparable, rateable
from audiozen_plugins.metric.rates import check_rate, resampled
from audiozen_plugins.metric.shared_result import SharedResult

_SR = 16_000
_CLEAN: SharedResult[list[str]] = SharedResult()


class WordErrorRate:
    """Word error rate for English speech: 0 if the recogniser recognises all words, and 1 if it recognises none.

    Additional words may raise the rate above 1. The recogniser is `pocketsphinx`, with the US English model in its
    wheel. It is an old recogniser, with many wrong words even for clean speech. Use the rate only to compare systems
    with each other, and never compare it with rates of another recogniser. Each file has its own rate. The mean of a
    test is over files and not over words, so that each file has the same weight.

    Each file gets a new recogniser, because the state of a recogniser after one file would affect the next file. Words
    are compared without case and punctuation; digits are not spelt out. The value is NaN if the text has no word, if no
    word is recognised in the clean file, or if a signal is empty, silent or not finite.

    Args:
        against: `text` compares with the text of each file. `clean` compares with the words that are recognised in the
            clean signal (`word_error_rate_clean`).
        resample: whether to accept audio of any sample rate, and to rate copies that are resampled to 16 kHz. The name
            then ends in `_16k`.

    Raises:
        MissingExtraError: pocketsphinx is not installed.
    """

    unit = ""
    higher_is_better = False
    packages = ("pocketsphinx",)

    def __init__(self, against: Literal["text", "clean"] = "text", resample: bool = False) -> None:
        # The package is located but not imported, so that training does not wait for the import.
        if importlib.util.find_spec("pocketsphinx") is None:
            raise MissingExtraError("pocketsphinx", extra="words", needed_by="the word error rate")
        self.against, self.resample = against, resample
        self.needs = (against,)
        self.name = "word_error_rate" if against == "text" else "word_error_rate_clean"
        self.label = "WER" if against == "text" else "WER to clean"
        if resample:
            self.name, self.label, self.computed_at = f"{self.name}_16k", f"{self.label} at 16 kHz", _SR
        else:
            self.sample_rates = (_SR,)

    @property
    def weights(self) -> tuple[Path, ...]:
        """The files of the acoustic model, the language model and the dictionary."""
        spec = importlib.util.find_spec("pocketsphinx")
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent / "model/en-us"
        acoustic = [path for path in sorted((folder / "en-us").iterdir()) if path.name != "README"]
        return (*acoustic, folder / "en-us.lm.bin", folder / "cmudict-en-us.dict")

    def __call__(self, estimate: Tensor, reference: Tensor | None = None, *, sr: int, text: str | None = None) -> float:
        """Computes the rate of the estimate [time] against the text, or against the reference [time].

        Raises:
            DataError: the sample rate is not 16 kHz.
            ValueError: the text or the reference is missing, or the shapes differ.
        """
        if not self.resample:
            check_rate(self.label, "word_error_rate", sr, (_SR,), resamples=True)
        if self.against == "text":
            if text is None:
                raise ValueError("the word error rate needs the `text` of the file")
            if not rateable(estimate):
                return math.nan
            said = words(text)
        else:
            if reference is None:
                raise ValueError("the word error rate needs the clean signal")
            if not comparable(estimate, reference):
                return math.nan
            said = _CLEAN.get_or_compute((reference,), sr, lambda: self.transcribe(reference, sr))
        return word_error_rate(self.transcribe(estimate, sr), said)

    def transcribe(self, signal: Tensor, sr: int) -> list[str]:
        """Returns the words that are recognised in a signal [time]."""
        from pocketsphinx import Decoder  # type: ignore[import-not-found, unused-ignore]

        samples = resampled(signal, sr, _SR).float().clamp(-1, 1) * 32767
        # Each new decoder reads the model. Resetting the cepstral mean of a decoder would be faster, but not all of its
        # state would be reset.
        decoder = Decoder(samprate=float(_SR), loglevel="FATAL")
        decoder.start_utt()
        decoder.process_raw(samples.round().numpy().astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return words(found.hypstr) if found else []


class WordErrorRateClean(WordErrorRate):
    """Word error rate against the words recognised in the clean file: `word_error_rate` with `against = "clean"`.

    This metric needs no texts. A word counts as correct if it is misrecognised in the same way in both files.

    Args:
        resample: as in `word_error_rate`.

    Raises:
        MissingExtraError: pocketsphinx is not installed.
    """

    same_as = WordErrorRate

    def __init__(self, resample: bool = False) -> None:
        super().__init__("clean", resample)


def words(text: str) -> list[str]:
    """Returns the words of a text in lower case, without punctuation.

    Example:
        >>> words("She'd had, in 2 suits: GREASY wash-water!")
        ["she'd", 'had', 'in', '2', 'suits', 'greasy', 'wash', 'water']
    """
    return re.findall(r"\w+(?:'\w+)*", text.lower().replace("’", "'").replace("_", " "))


def word_error_rate(heard: list[str], said: list[str]) -> float:
    """Returns the number of insertions, deletions and substitutions, divided by the number of words in `said`.

    The result is NaN if `said` is empty.

    Example:
        >>> word_error_rate(["the", "cat", "sat"], ["a", "cat", "sat", "down"])
        0.5
    """
    if not said:
        return math.nan
    torchaudio_loader.install()
    # Importing torchaudio takes a long time, and it is needed only here.
    from torchaudio.functional import edit_distance

    return float(edit_distance(heard, said)) / len(said)
