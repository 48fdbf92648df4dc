"""Gives networks the weights of `[model.init]` before a new training begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from audiozen_core.checkpoint.mismatch import mismatch_error
from audiozen_core.checkpoint.source import WeightSource, read_source
from audiozen_core.config.checked import CheckedConfig
from audiozen_core.config.sections import InitialWeights, ModelComponent
from audiozen_core.diagnostics.listed import listed
from audiozen_core.diagnostics.suggestions import similar_names
from audiozen_core.errors import AudioZenError, CheckpointError, RunError
from audiozen_core.experiment.lazy_modules import complete_norms
from audiozen_core.experiment.parameter_groups import near_pattern
from audiozen_core.logging import get_logger
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.module_state import ModuleState

_MOST_NAMES = 20


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """The result of loading the weights of `[model.init]` into a network.

    Attributes:
        section: the section of the network.
        source: the file or checkpoint that the weights come from.
        loaded: the names of the weights that were loaded.
        excluded: the names of weights that were not loaded because `exclude` matches their names.
        missing: the names of weights that were not loaded because the source does not contain them.
        shapes: the weights that were not loaded because their shapes differ. Maps the name to the shape in the source
            and the shape in the network.
        unused: the names of tensors in the source that the network does not have.
    """

    section: str
    source: WeightSource
    loaded: Sequence[str]
    excluded: Sequence[str]
    missing: Sequence[str]
    shapes: Mapping[str, tuple[list[int], list[int]]]
    unused: Sequence[str]

    @property
    def origin(self) -> str:
        """The source in one line, with its hash."""
        owner = f", `{self.source.owner}`" if self.source.owner else ""
        return f"{self.source.path}{owner}, sha256 {self.source.sha256}"

    def table(self) -> dict[str, str]:
        """Returns a row of text for each list of names that is not empty: the number of names and the first names."""
        modules = Counter(name.partition(".")[0] for name in self.loaded)
        shapes = [f"{name} {saved} instead of {wanted}" for name, (saved, wanted) in self.shapes.items()]
        rows = {
            "loaded": (self.loaded, ", ".join(f"{count} in {name}" for name, count in modules.items())),
            "excluded": (self.excluded, listed(self.excluded, _MOST_NAMES)),
            "missing": (self.missing, listed(self.missing, _MOST_NAMES)),
            "other_shape": (shapes, listed(shapes, _MOST_NAMES)),
            "unused": (self.unused, listed(self.unused, _MOST_NAMES)),
        }
        return {name: f"{len(names)} ({text})" for name, (names, text) in rows.items() if names}


def load_initial_weights(trainer: BaseTrainer, checked: CheckedConfig) -> list[LoadedWeights]:
    """Loads the weights of all networks that have a table `init`. All ranks must call it.

    Returns:
        The result for each network that has a table `init`.

    Raises:
        CheckpointError: the source can't be read, or does not fit the network. The error contains the position of
            `init` in the TOML file.
        RunError: the ranks read different weights.
    """
    done = []
    for suffix, component in checked.config.components["model"].items():
        assert isinstance(component, ModelComponent)  # the schema defines this class for these sections
        init = component.init
        if init is None:
            continue
        with _named(checked, init):
            source = _same_source(trainer, init, component.section)
            loaded = _load(trainer.models[suffix], init, component.section, source)
        trainer.start_is_unsaved = True
        log = get_logger()
        say = log.warning if loaded.missing or loaded.shapes or loaded.unused else log.info
        say(f"[{component.section}] starts with other weights", source=loaded.origin, **loaded.table())
        done.append(loaded)
    return done


def _same_source(trainer: BaseTrainer, init: InitialWeights, section: str) -> WeightSource:
    """Reads the source of the weights, and checks that all ranks have read the same weights."""
    source, failed = None, None
    try:
        source = read_source(Path(init.path), init.owner, section, map_location=trainer.state_device)
    except AudioZenError as error:
        failed = error  # raised below, because the other ranks wait for this rank in `differing`
    others = trainer.ranks.differing_ranks(source and (source.owner, source.sha256))
    if failed is not None:
        raise failed
    assert source is not None
    if others:
        raise RunError(
            f"rank {others[0]} and rank 0 read different weights from `{init.path}`",
            remedy="copy the same file to all machines, or put it in a folder that they share",
        )
    return source


def _load(model: Any, init: InitialWeights, section: str, source: WeightSource) -> LoadedWeights:
    state = ModuleState(model)
    names = list(state.state_dict())
    weights = renamed(source.weights, init.prefix, init.map)
    if repeated := state.compare(weights).repeated:
        name, other = repeated[0]
        raise CheckpointError(
            f"{source.path} has `{name}` and `{other}`, which are the same weight of [{section}]",
            remedy="choose one of them with `prefix`",
        )
    weights = state.without_wrappers(weights)
    patterns = [init.exclude] if isinstance(init.exclude, str) else init.exclude
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise CheckpointError(
                f"the pattern `{pattern}` of `exclude` matches no weight of [{section}]",
                remedy=near_pattern(pattern, names),
            )
    is_excluded = {name for name in [*names, *weights] if any(fnmatchcase(name, pattern) for pattern in patterns)}
    excluded = [name for name in names if name in is_excluded]
    weights = {name: weight for name, weight in weights.items() if name not in is_excluded}
    mismatch = state.compare(weights)
    missing = [name for name in mismatch.missing if name not in is_excluded]
    unfit = {*mismatch.unexpected, *mismatch.shapes}
    chosen = {name: weight for name, weight in weights.items() if name not in unfit}
    if mismatch.dtypes or (init.strict and (missing or unfit)) or not chosen:
        message = f"the weights in {source.path} do not fit [{section}]"
        changed = sorted({name.rpartition(".")[0] for name in [*mismatch.shapes, *missing]} - {""})
        example = f', for example `exclude = ["{changed[0]}.*"]`' if changed else ""
        remedy = f"exclude layers that are new or have another size{example}; or rename tensors with `map` or `prefix`"
        raise mismatch_error(message, RuntimeError(), replace(mismatch, missing=missing), remedy=remedy)
    state.load_state_dict(chosen, strict=False)
    complete_norms(model)
    loaded, unused = [name for name in names if name in chosen], sorted(mismatch.unexpected)
    return LoadedWeights(section, source, loaded, excluded, missing, mismatch.shapes, unused)


def renamed(weights: Mapping[str, Any], prefix: str, names: Mapping[str, str]) -> dict[str, Any]:
    """Returns weights with new names.

    Args:
        weights: the weights by name.
        prefix: the module that contains the weights, such as `generator.net`. The prefix is removed from the names of
            the weights. Weights outside the module are left out.
        names: the new names of modules or weights, by old name. `{"enc": "encoder"}` renames `enc.0.weight` to
            `encoder.0.weight`. The name "" stands for the whole network.

    Raises:
        CheckpointError: `prefix` or one of the old names matches no weight, two old names match the same weight, or two
            weights get the same new name.

    Example:
        >>> renamed({"net.enc.weight": 1, "net.bias": 2, "other": 3}, "net", {"enc": "encoder"})
        {'bias': 2, 'encoder.weight': 1}
    """
    prefix = prefix.rstrip(".")
    # The tensors in a file have no fixed order. Sorting makes the error message reproducible.
    within = {rest: weights[name] for name in sorted(weights) if (rest := _below(name, prefix))}
    if not within:
        raise _no_match(f"`prefix` is `{prefix}`, but no tensor name begins with it", prefix, sorted(weights))
    hits: dict[str, str] = {}
    for old in names:
        found = [name for name in within if _below(name, old.rstrip(".")) is not None]
        if not found:
            raise _no_match(f"`map` has `{old}`, but no tensor name begins with it", old, list(within))
        if twice := [name for name in found if name in hits]:
            raise CheckpointError(
                f"`map` has two names for the tensor `{twice[0]}`: `{hits[twice[0]]}` and `{old}`",
                remedy="make sure that no name in `map` begins with another one",
            )
        hits |= dict.fromkeys(found, old)
    sources: dict[str, str] = {}
    for name in within:
        new = name
        if name in hits:
            old = hits[name]
            new = ".".join(filter(None, (names[old].rstrip("."), _below(name, old.rstrip(".")))))
        if (other := sources.setdefault(new, name)) != name:
            raise CheckpointError(
                f"`map` gives two tensors the name `{new}`: `{other}` and `{name}`",
                remedy="map only one of them, or choose one with `prefix`",
            )
    return {new: within[name] for new, name in sources.items()}


def _below(name: str, module: str) -> str | None:
    """Returns a name relative to a module: "" for the module itself; None if the name is not within the module."""
    if not module:
        return name
    if name == module:
        return ""
    return name.removeprefix(f"{module}.") if name.startswith(f"{module}.") else None


def _no_match(message: str, word: str, names: Sequence[str]) -> CheckpointError:
    modules = dict.fromkeys(name.rsplit(".", depth)[0] for name in names for depth in range(1, name.count(".") + 1))
    near = similar_names(word.rstrip("."), [*modules, *names])
    tops = dict.fromkeys(name.partition(".")[0] for name in names)
    remedy = f"similar names: {', '.join(near)}" if near else f"the names begin with {listed(tops)}"
    return CheckpointError(message, remedy=remedy)


@contextmanager
def _named(checked: CheckedConfig, init: InitialWeights) -> Iterator[None]:
    """Adds the position of `init` in the TOML file to an error that is raised in the block."""
    try:
        yield
    except AudioZenError as error:
        error.notes = (*error.notes, f"named in: {checked.composition.origin(init.key)}")
        raise
