"""AudioZEN's data sets, and their shared collate function."""

from audiozen_plugins.dataset.audio_folder import AudioFolder
from audiozen_plugins.dataset.collate import pad_collate
from audiozen_plugins.dataset.dns_challenge import DnsChallenge
from audiozen_plugins.dataset.mixture_folders import MixtureFolders
from audiozen_plugins.dataset.noisy_clean_folders import NoisyCleanFolders
from audiozen_plugins.dataset.noisy_speech_mix import NoisySpeechMix
from audiozen_plugins.dataset.speaker_mix import SpeakerMix

__all__ = [
    "AudioFolder",
    "DnsChallenge",
    "MixtureFolders",
    "NoisyCleanFolders",
    "NoisySpeechMix",
    "SpeakerMix",
    "pad_collate",
]
