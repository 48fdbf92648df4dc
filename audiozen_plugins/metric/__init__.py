"""Metrics of speech quality. They rate files in each of their states, and a report shows the results of a test."""

from audiozen_plugins.metric.dnsmos import Dnsmos
from audiozen_plugins.metric.metric import Metric
from audiozen_plugins.metric.pesq import Pesq
from audiozen_plugins.metric.sdr import Sdr, bss_eval_sdr
from audiozen_plugins.metric.si_sdr import SiSdr, si_sdr
from audiozen_plugins.metric.stoi import Stoi

__all__ = ["Dnsmos", "Metric", "Pesq", "Sdr", "SiSdr", "Stoi", "bss_eval_sdr", "si_sdr"]
