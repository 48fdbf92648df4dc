from audiozen_core.data.loader import BatchLoader as BatchLoader
from audiozen_core.data.unreadable_files import keep_readable as keep_readable
from audiozen_plugins.dataset.audio_folder import AudioFolder as AudioFolder
from audiozen_plugins.dataset.collate import pad_collate as pad_collate
from audiozen_plugins.dataset.dns_challenge import DnsChallenge as DnsChallenge
from audiozen_plugins.dataset.noisy_clean_folders import NoisyCleanFolders as NoisyCleanFolders
from audiozen_plugins.dataset.noisy_speech_mix import NoisySpeechMix as NoisySpeechMix
