from audiozen_core.logging import configure as configure
from audiozen_core.logging import get_logger as get_logger
from audiozen_core.logging import shown_as as shown_as
