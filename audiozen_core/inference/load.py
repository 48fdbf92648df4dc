"""Finds and loads a trained network: of a run, a checkpoint, an exported folder, or a published network."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from audiozen_core.checkpoint.errors import NoCheckpointError
from audiozen_core.checkpoint.format.manifest import MANIFEST
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.config.check import check_config
from audiozen_core.config.checked import CheckedConfig
from audiozen_core.config.compose import compose
from audiozen_core.config.load import load_config
from audiozen_core.config.overrides import as_assignments
from audiozen_core.config.sections import DEVICES
from audiozen_core.config.toml.document import Document
from audiozen_core.config.toml.emit import emit
from audiozen_core.diagnostics.listed import listed
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.experiment.build import build_components, build_lifecycle
from audiozen_core.experiment.component import build_component
from audiozen_core.experiment.load_run import checkpoint_config, locate_checkpoint
from audiozen_core.experiment.owners import name_owners
from audiozen_core.experiment.part_parameters import check_trainer
from audiozen_core.experiment.process import prepare_process, set_deterministic
from audiozen_core.experiment.resume import restore_for_evaluation
from audiozen_core.experiment.starting_points import StartingPoint, StartingPoints
from audiozen_core.inference.enhancer import Enhancer, ModelSource
from audiozen_core.kinds import KINDS, affects, kind_of
from audiozen_core.registry.code_hash import code_hash
from audiozen_core.registry.index import installed_index
from audiozen_core.registry.paths import load_entry, resolve
from audiozen_core.registry.scope import ImportScope
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.run_arguments import only_for_runs
from audiozen_core.trainer.state import kept_generators

CONFIG = "config.toml"
WEIGHTS = "model.safetensors"
CARD = "README.md"

_OF_META = ("id", "requires")


@dataclass(frozen=True, slots=True)
class FoundNetwork:
    """A trained network that has been found.

    Attributes:
        name: the name that the user gave.
        folder: the folder of the run, or the exported folder.
        path: the folder of the checkpoint, or the file of weights.
        config: the configuration, without sections and arguments that only a run needs.
        import_from: the folders of modules that do not belong to a package.
        data: the sections of the training data, if they are known.
    """

    name: str
    folder: Path
    path: Path
    config: Document
    import_from: tuple[str, ...]
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_exported(self) -> bool:
        """Whether the network is in an exported folder."""
        return self.path == self.folder / WEIGHTS


def load(
    source: str | Path, checkpoint: str | None = None, *, weights: str | None = None, device: str = "auto"
) -> Enhancer:
    """Loads a trained network for use.

    Only the folder of the run is needed, and it may have been moved. The TOML file, the data and packages that only
    training uses are not needed. The states of the caller's random generators do not change. Networks run in float32,
    even if they were trained in mixed precision.

    Args:
        source: the folder of a run, such as `exp/baseline`; the folder of a checkpoint; an exported folder; or the name
            of a network that an installed plugin publishes, such as `acme-denoiser`.
        checkpoint: the checkpoint of a run: `best`, `latest`, a name, or a path with a separator; by default the best
            checkpoint, or the latest if none is marked as the best.
        weights: the weights of a checkpoint to use: `raw`, or weights that a hook offers, such as `ema`; by default the
            weights that the run's evaluations use.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises:
        RunError: the source is none of these, or can't be used to enhance signals.
        ConfigError: its configuration does not fit the installed components.
        BuildError: the network can't be built, or the device does not exist.
        CheckpointError: the weights can't be read, or do not fit the network.

    Example:
        >>> model = load("exp/baseline")  # doctest: +SKIP
        >>> enhanced = model.enhance(noisy, sr=16000)  # doctest: +SKIP
    """
    found = find_network(source, checkpoint)
    if found.is_exported and (checkpoint or weights):
        raise RunError(
            f"`{found.name}` is an exported network, which has only one set of weights",
            remedy="leave out the checkpoint and the weights",
        )
    return build_enhancer(found, weights=weights, device=device)


def find_network(source: str | Path, checkpoint: str | None = None) -> FoundNetwork:
    """Finds a trained network; see `load`."""
    path = Path(source).expanduser()
    if (path / "checkpoints").is_dir():
        store = CheckpointStore(path / "checkpoints")
        if checkpoint is None and not store.list(verify=False):
            raise NoCheckpointError(
                f"the run `{path}` has no checkpoint yet",
                remedy="wait until the training has saved one, or train it: `audiozen run EXP.toml --mode train`",
            )
        return _of_run(source, path, locate_checkpoint(store, checkpoint or ("best" if store.has_best else "latest")))
    if path.is_file() and path.name == WEIGHTS:
        path = path.parent
    if (path / MANIFEST).is_file():
        real = path.resolve()
        run = real.parent.parent if real.parent.name == "checkpoints" else real.parent
        return _of_run(source, run, CheckpointStore(real.parent).locate(real))
    if (path / CONFIG).is_file() and (path / WEIGHTS).is_file():
        return _exported(str(source), path.resolve())
    if not path.exists() and os.sep not in str(source) and path.suffix not in (".toml", ".safetensors"):
        return _published(str(source))
    raise _not_found(str(source), path)


def _of_run(source: str | Path, folder: Path, path: Path) -> FoundNetwork:
    folder = folder.resolve()
    config, import_from = checkpoint_config(path, folder)
    modules = tuple(import_from.get("meta.import_from", ())) or (str(folder),)
    modes = KINDS["dataset"].modes
    training = {name: table for name, table in compose(config, ()).values.items() if modes.get(name) == "train"}
    return FoundNetwork(str(source), folder, path, _for_use(config, modules), modules, training)


def _exported(name: str, folder: Path) -> FoundNetwork:
    return FoundNetwork(
        name, folder, folder / WEIGHTS, _for_use(Document.read(folder / CONFIG), (str(folder),)), (str(folder),)
    )


def _published(name: str) -> FoundNetwork:
    index = installed_index()
    if name not in index.names("pretrained") and ":" not in name:
        raise _not_found(name, Path(name))
    entry = index.find(name, "pretrained")
    folder = Path(cast(Callable[[], str | Path], load_entry(entry, path=name).target)())
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise RunError(
            f"the network `{name}` of {entry.origin} is incomplete: {folder} lacks {CONFIG} or {WEIGHTS}",
            remedy="publish a folder that `audiozen export` has written, with all its files in the wheel",
            notes=(entry.note,),
        )
    return _exported(name, folder.resolve())


def _not_found(source: str, path: Path) -> RunError:
    names = installed_index().names("pretrained")
    guess = did_you_mean(nearest(source, names))
    notes = (f"installed networks: {listed(names)}{f'; {guess}' if guess else ''}",) if names else ()
    if path.suffix == ".toml":
        return RunError(
            f"`{source}` is the file of an experiment, not a trained network",
            remedy="give the folder of its run, such as `exp/baseline`; `audiozen.load_experiment` loads the file",
        )
    if not path.exists():
        return RunError(
            f"`{source}` does not exist, and no installed plugin publishes a network of this name",
            remedy="give the folder of a run, of a checkpoint or of an exported network; relative paths are resolved "
            f"from `{Path.cwd()}`",
            notes=notes,
        )
    return RunError(
        f"`{source}` is not a trained network: it has neither a folder `checkpoints`, nor {MANIFEST}, nor {CONFIG} and "
        f"{WEIGHTS}",
        remedy="give the folder of a run that has saved a checkpoint, such as `exp/baseline`",
        notes=notes,
    )


def _for_use(config: Document, import_from: Sequence[str]) -> Document:
    """Returns a configuration without the sections and arguments that only a run needs."""
    values = compose(config, ()).values
    kept: dict[str, Any] = {"meta": {"save_dir": "exp", **_part(values.get("meta"), _OF_META)}}
    for section, table in values.items():
        kind = kind_of(section)
        if section == "meta" or not affects(section, "outputs"):
            continue
        kept[section] = _part(table, ("path", "args")) if kind and kind.name == "model" else table
    args, unused = _part(kept.get("trainer"), ("args",)).get("args"), _only_for_runs(kept.get("trainer"), import_from)
    if isinstance(args, dict):
        kept["trainer"] = kept["trainer"] | {"args": {key: args[key] for key in args if key not in unused}}
    return Document.parse(emit(kept), config.file)


def _only_for_runs(trainer: Any, import_from: Sequence[str]) -> set[str]:
    """Returns the arguments of the trainer in a configuration that only training and evaluations need."""
    path = _part(trainer, ("path",)).get("path")
    target: object = None
    # Errors of the trainer are reported later, when the configuration is checked.
    with ImportScope(import_from), contextlib.suppress(AudioZenError):
        target = resolve(str(path), section="trainer").target
    return only_for_runs(target)


def _part(table: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: table[key] for key in keys if key in table} if isinstance(table, Mapping) else {}


def build_enhancer(found: FoundNetwork, *, weights: str | None = None, device: str = "auto") -> Enhancer:
    """Builds the network that `find_network` has found, and loads its weights; see `load`."""
    # The device becomes an override below. An error about this override would confuse users, who have not written it.
    if not re.fullmatch(DEVICES, device):
        raise RunError(f"`{device}` is not a device", remedy="use auto, cpu, cuda, cuda:1 or mps")
    place = {
        "meta.save_dir": str(found.folder.parent),
        "meta.id": found.folder.name,
        "meta.device": device,
        "meta.import_from": list(found.import_from),
    }
    checked = _without_monitors(check_config(load_config(found.config, as_assignments(place), ())))
    with _kept_settings(), kept_generators(), checked.scope, name_owners(checked):
        target = prepare_process(checked.config.meta)
        lifecycle = build_lifecycle(checked)
        components = build_components(checked, lifecycle, found.folder, target, trains=False)
        components.only_enhances = True
        trainer: BaseTrainer = build_component(checked.component(checked.config.trainer), {"components": components})
        trainer = lifecycle.wrap_component("trainer", trainer)
        check_trainer(checked.config.trainer, trainer)
        StartingPoints(CheckpointStore(found.path.parent), ()).load_weights(
            trainer, StartingPoint(found.name, found.path)
        )
        lifecycle.on_setup(trainer=trainer)
        trainer.state.close()
        restore_for_evaluation(trainer, found.path, None)
        trainer.weights.choose(weights)
        trainer.weights.use()
        imported = _imported_code(checked, trainer)
    known = found.path.is_dir()
    settings = emit({key: value for key, value in found.config.values.items() if key != "meta"})
    files = tuple(checked.scope.imported_files())
    source = ModelSource(
        found.name,
        found.path,
        weights or "",
        trainer.progress.epoch if known else None,
        trainer.progress.step if known else None,
        settings,
        files,
        _code(imported, files),
    )
    return Enhancer(trainer, source)


def _imported_code(checked: CheckedConfig, trainer: BaseTrainer) -> str:
    """Returns a hash of the code that decides what the networks of a trainer compute. Call it within the scope."""
    models, config = trainer.models.values(), checked.config
    parts = [*config.components.get("model", {}).values(), config.trainer, *config.hooks]
    targets = [part.target for component in parts for part in checked.component(component).walk()]
    modules = {type(module): None for model in models for module in model.modules()}
    objects = [type(trainer), *modules, *targets]
    return code_hash(objects, rooms=("audio", "data", "inference"), packages=("torchaudio",), own_folders=False)


def _code(imported: str, files: Iterable[Path]) -> str:
    """Returns a hash of code and of all of the experiment's own modules that have been imported."""
    digest = hashlib.blake2b(imported.encode(), digest_size=16)
    for name, content in sorted((file.name, file.read_bytes()) for file in files):
        digest.update(name.encode("utf-8", "surrogateescape") + content)
    return digest.hexdigest()


def _without_monitors(checked: CheckedConfig) -> CheckedConfig:
    """Returns the configuration without hooks that can't affect the output of the networks."""
    targets = {hook.key: checked.component(hook).target for hook in checked.affecting_hooks()}
    hooks = [hook for hook in checked.affecting_hooks() if getattr(targets[hook.key], "affects_outputs", True)]
    config = dataclasses.replace(checked.config, hooks=hooks)
    return dataclasses.replace(checked, config=config, default_hooks=())


@contextmanager
def _kept_settings() -> Iterator[None]:
    """Restores torch's global settings after the block, because the process belongs to the caller."""
    deterministic, cudnn = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    try:
        yield
    finally:
        set_deterministic(deterministic)
        torch.backends.cudnn.deterministic = cudnn
