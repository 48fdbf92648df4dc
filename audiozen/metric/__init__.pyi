from audiozen_plugins.metric.dnsmos import Dnsmos as Dnsmos
from audiozen_plugins.metric.metric import Metric as Metric
from audiozen_plugins.metric.pesq import Pesq as Pesq
from audiozen_plugins.metric.rating import Row as Row
from audiozen_plugins.metric.report import Report as Report
from audiozen_plugins.metric.si_sdr import SiSdr as SiSdr
from audiozen_plugins.metric.si_sdr import si_sdr as si_sdr
from audiozen_plugins.metric.stoi import Stoi as Stoi
