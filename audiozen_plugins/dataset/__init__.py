"""AudioZEN's data sets, and their shared collate function."""

from audiozen_plugins.dataset.audio_folder import AudioFolder
from audiozen_plugins.dataset.collate import pad_collate
from audiozen_plugins.dataset.dns_challenge import DnsChallenge
from audiozen_plugins.dataset.noisy_clean_folders import NoisyCleanFolders
from audiozen_plugins.dataset.noisy_speech_mix import NoisySpeechMix

__all__ = ["AudioFolder", "DnsChallenge", "NoisyCleanFolders", "NoisySpeechMix", "pad_collate"]
