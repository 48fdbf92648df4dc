from audiozen_core.results.intervals import Mean as Mean
from audiozen_core.results.intervals import bootstrap_interval as bootstrap_interval
from audiozen_core.results.intervals import mean_with_interval as mean_with_interval
from audiozen_core.results.reading import read_scores as read_scores
from audiozen_core.results.records import FileScores as FileScores
from audiozen_core.results.records import MetricInfo as MetricInfo
from audiozen_core.results.scores import Scores as Scores
