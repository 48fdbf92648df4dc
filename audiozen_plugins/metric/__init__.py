"""Metrics of speech quality."""

from audiozen_plugins.metric.dnsmos import Dnsmos
from audiozen_plugins.metric.pesq import Pesq
from audiozen_plugins.metric.sdr import Sdr, bss_eval_sdr
from audiozen_plugins.metric.si_sdr import SiSdr
from audiozen_plugins.metric.stoi import Stoi

__all__ = ["Dnsmos", "Pesq", "Sdr", "SiSdr", "Stoi", "bss_eval_sdr"]
