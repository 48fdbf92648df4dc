"""Which arguments of a trainer only runs need: they affect the training or the scores, but not the networks' outputs.

`BaseTrainer` has only such arguments. A trainer lists its own arguments of this kind:

    class Trainer(BaseTrainer):
        only_for_runs = ("score",)
"""

from __future__ import annotations

from audiozen_core.binding.signature import signature_of
from audiozen_core.trainer.base_trainer import BaseTrainer


def only_for_runs(trainer: object) -> set[str]:
    """Returns the arguments of a trainer's class that only runs need. Names of base classes apply to subclasses, too.

    >>> sorted(only_for_runs(BaseTrainer) & {"components", "clip_grad_norm_value", "score"})
    ['clip_grad_norm_value', 'components']
    """
    base = signature_of(BaseTrainer)
    names = set(base.names()) if base else set()
    for cls in trainer.__mro__ if isinstance(trainer, type) else ():
        names.update(vars(cls).get("only_for_runs", ()))
    return names
