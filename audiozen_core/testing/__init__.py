"""The test kit for authors of components: tiny runs, a recorder of hook calls, and conformance checks.

It is a pytest plugin too, in force wherever AudioZEN is installed: the fixtures `tiny_experiment` and `hook_recorder`
need no import.

    from audiozen_core.testing import check_entry_points, check_loss, check_model

    def test_the_model_is_kept_by_a_checkpoint():
        check_model(lambda: Net(bands=4), torch.rand(2, 65, 9))

    def test_a_run_with_it(tiny_experiment):
        outcome = tiny_experiment.set("model", path="acme:net", bands=4).run("train")
        assert outcome.metrics("train/loss")

The names below are imported when they are first asked for, as pytest loads this package in every project.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audiozen_core.testing.conformance import check_entry_points, check_hooks, check_signature
    from audiozen_core.testing.dataset import check_dataset
    from audiozen_core.testing.imports import check_import
    from audiozen_core.testing.networks import check_loss, check_model
    from audiozen_core.testing.recorder import HookRecorder
    from audiozen_core.testing.tiny import Outcome, TinyExperiment, write_pairs

_HOMES = {
    "conformance": ("check_entry_points", "check_hooks", "check_signature"),
    "dataset": ("check_dataset",),
    "imports": ("check_import",),
    "networks": ("check_loss", "check_model"),
    "recorder": ("HookRecorder",),
    "tiny": ("Outcome", "TinyExperiment", "write_pairs"),
}

__all__ = [
    "HookRecorder",
    "Outcome",
    "TinyExperiment",
    "check_dataset",
    "check_entry_points",
    "check_hooks",
    "check_import",
    "check_loss",
    "check_model",
    "check_signature",
    "write_pairs",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
