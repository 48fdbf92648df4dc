"""All that is public, in one place: what plugins and trainers may import and rely on.

Besides these names, public are: the hooks of `audiozen_core.hooks.specs` with their arguments, the entry point groups,
the commands with their options, the sections and keys of a TOML file, and the names of first-party components with
their arguments. What is not named here may change without notice.

A test compares the signatures with those of the last release, and wants a word in the changelog for each that differs.
"""

from __future__ import annotations

PUBLIC: dict[str, tuple[str, ...]] = {
    "audiozen_core.audio.acoustics": ("Acoustics",),
    "audiozen_core.audio.files": (
        "AUDIO_SUFFIXES",
        "AudioInfo",
        "audio_info",
        "list_audio",
        "read_audio",
        "require_folder",
        "write_audio",
    ),
    "audiozen_core.checkpoint": (
        "CheckpointInfo",
        "CheckpointStore",
        "CheckpointWriteError",
        "DamagedCheckpointError",
        "LoadedCheckpoint",
        "NoCheckpointError",
        "UnstorableStateError",
        "average",
        "load_weights",
    ),
    "audiozen_core.checkpoint.writer": ("CheckpointWriter", "Saved"),
    "audiozen_core.errors": (
        "AudioZenError",
        "BuildError",
        "CheckpointError",
        "ConfigError",
        "DataError",
        "HookError",
        "MissingExtraError",
        "RegistryError",
        "RunError",
    ),
    "audiozen_core.data.unreadable_files": ("usable",),
    "audiozen_core.experiment.experiment": ("Experiment",),
    "audiozen_core.storage.atomic": ("make_folder", "write_whole"),
    "audiozen_core.hooks.progress": ("Progress",),
    "audiozen_core.hooks.trainer_protocol": ("Stateful", "Trainer"),
    "audiozen_core.hooks.specs": ("DEFAULT_PHASE", "Mode", "PHASES", "hookimpl"),
    "audiozen_core.interruption": ("Interrupted",),
    "audiozen_core.storage.append": ("LineFile",),
    "audiozen_core.logging": ("configure", "get_logger"),
    "audiozen_core.hooks.lifecycle": ("Lifecycle", "Plugin"),
    "audiozen_core.binding.arguments": ("build",),
    "audiozen_core.registry.index": ("installed_index",),
    "audiozen_core.registry.paths": ("resolve",),
    "audiozen_core.audio.stft": ("Stft",),
    "audiozen_core.testing": (
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
    ),
    "audiozen_core.trainer.base_trainer": ("BaseTrainer",),
    "audiozen_core.trainer.components": ("Components",),
    "audiozen_core.data.loader": ("BatchLoader",),
    "audiozen_core.trainer.state": ("RandomState",),
}
"""Module to its public names."""
