from audiozen_core import __version__ as __version__
from audiozen_core.errors import AudioZenError as AudioZenError
from audiozen_core.experiment.experiment import Experiment as Experiment
from audiozen_core.hooks.specs import hookimpl as hookimpl

from . import audio as audio
from . import checkpoint as checkpoint
from . import dataset as dataset
from . import errors as errors
from . import files as files
from . import hooks as hooks
from . import logging as logging
from . import loss as loss
from . import metric as metric
from . import model as model
from . import registry as registry
from . import testing as testing
from . import trainer as trainer
