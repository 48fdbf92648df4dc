"""From TOML text to a checked, composed, typed configuration in which every value knows its place."""

from audiozen_core.config.check import check_components, check_config, finish, import_scope
from audiozen_core.config.load import Inspection, LoadedConfig, inspect_config, load_config
from audiozen_core.config.sections import (
    Component,
    Dataloader,
    DatasetComponent,
    ExperimentConfig,
    HookComponent,
    Meta,
    SchedulerComponent,
)

__all__ = [
    "Component",
    "Dataloader",
    "DatasetComponent",
    "ExperimentConfig",
    "HookComponent",
    "Inspection",
    "LoadedConfig",
    "Meta",
    "SchedulerComponent",
    "check_components",
    "check_config",
    "finish",
    "import_scope",
    "inspect_config",
    "load_config",
]
