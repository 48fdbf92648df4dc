"""The word error rate counts words, and a file has the same value whatever came before."""

from __future__ import annotations

import math

import pytest
import torch

from audiozen_core.audio.files import read_audio
from audiozen_core.errors import MissingExtraError
from audiozen_plugins.metric.word_error_rate import WordErrorRate, word_error_rate, words

SR = 16000


@pytest.fixture
def metric():
    try:
        return WordErrorRate("clean")
    except MissingExtraError as missing:
        pytest.skip(missing.message)


@pytest.mark.parametrize(
    ("heard", "said", "expected"),
    [
        ("she had your suit", "She had YOUR suit.", 0),
        ("", "she had your suit", 1),
        ("she had a suit", "she had your suit", 0.25),
        ("she had suit", "she had your suit", 0.25),
        ("oh she had your dark suit", "she had your suit", 0.5),
        ("a b c d e f", "x", 6),
    ],
)
def test_rate_counts_words_to_insert_delete_and_replace(heard, said, expected):
    assert word_error_rate(words(heard), words(said)) == expected


def test_rate_without_words_to_say_is_not_defined():
    assert math.isnan(word_error_rate(["a"], []))
    assert math.isnan(word_error_rate([], words("… !")))


def test_text_or_clean_signal_is_needed(metric):
    text = WordErrorRate()
    assert (text.needs, text.name, metric.needs, metric.name) == (
        ("text",), "word_error_rate", ("clean",), "word_error_rate_clean"
    )  # fmt: skip
    with pytest.raises(ValueError, match="needs the `text`"):
        text(torch.rand(SR), sr=SR)
    with pytest.raises(ValueError, match="needs the clean signal"):
        metric(torch.rand(SR), sr=SR)


@pytest.mark.slow
def test_file_has_the_same_words_whatever_came_before(metric, reference):
    """A recogniser that had heard all clips before heard other words in the second of these."""
    first, second = (read_audio(reference / "vbdmd/noisy" / f"{name}.wav", sr=SR) for name in ("p257_003", "p257_008"))
    alone = metric.transcribe(second, SR)
    metric.transcribe(first, SR)
    assert metric.transcribe(second, SR) == alone
    assert len(alone) > 5


@pytest.mark.slow
def test_clean_speech_is_heard_with_a_few_errors_and_noise_with_more(metric, reference):
    jiwer = pytest.importorskip("jiwer", reason="jiwer is not installed: it is only compared with")
    noisy, clean = (read_audio(reference / "vbdmd" / kind / "p232_003.wav", sr=SR) for kind in ("noisy", "clean"))
    said = metric.transcribe(clean, SR)
    rate = metric(noisy, clean, sr=SR)
    assert rate == jiwer.wer(" ".join(said), " ".join(metric.transcribe(noisy, SR)))
    assert 0 < rate < 1
    assert WordErrorRate()(clean, sr=SR, text=" ".join(said)) == 0
