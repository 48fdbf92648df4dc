"""Metrics of speech quality."""

from audiozen_plugins.metric.aecmos import Aecmos
from audiozen_plugins.metric.composite import Cbak, Composite, Covl, Csig
from audiozen_plugins.metric.dnsmos import Dnsmos, DnsmosP808
from audiozen_plugins.metric.improvement import SdrImprovement, SiSdrImprovement
from audiozen_plugins.metric.lsd import Lsd
from audiozen_plugins.metric.pesq import Pesq, PesqNb
from audiozen_plugins.metric.plcmos import Plcmos
from audiozen_plugins.metric.sdr import Sdr, bss_eval_sdr
from audiozen_plugins.metric.si_sdr import SiSdr
from audiozen_plugins.metric.snr import FrequencyWeightedSnr, SegmentalSnr, SignalToNoiseRatio
from audiozen_plugins.metric.speaker_similarity import SpeakerSimilarity
from audiozen_plugins.metric.stoi import Estoi, Stoi
from audiozen_plugins.metric.synaptic_operations import SynapticOperations
from audiozen_plugins.metric.word_error_rate import WordErrorRate, WordErrorRateClean

__all__ = [
    "Aecmos",
    "Cbak",
    "Composite",
    "Covl",
    "Csig",
    "Dnsmos",
    "DnsmosP808",
    "Estoi",
    "FrequencyWeightedSnr",
    "Lsd",
    "Pesq",
    "PesqNb",
    "Plcmos",
    "Sdr",
    "SdrImprovement",
    "SegmentalSnr",
    "SiSdr",
    "SiSdrImprovement",
    "SignalToNoiseRatio",
    "SpeakerSimilarity",
    "Stoi",
    "SynapticOperations",
    "WordErrorRate",
    "WordErrorRateClean",
    "bss_eval_sdr",
]
