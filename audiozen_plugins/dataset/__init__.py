"""Data sets of the first party, and the collate function that goes with them."""

from audiozen_plugins.dataset.collate import pad_collate
from audiozen_plugins.dataset.noisy_speech_mix import NoisySpeechMix

__all__ = ["NoisySpeechMix", "pad_collate"]
