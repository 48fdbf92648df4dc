"""AudioZEN: one TOML file is one experiment.

The public names live in the sub-modules (``audiozen_core.trainer.base_trainer.BaseTrainer``, for one); this module
imports none of them, so that ``import audiozen_core`` costs nothing.
"""

__version__ = "0.1.0"
