"""Exports a trained network into a folder that works without the run, the recipe and the data."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiozen_core import __version__
from audiozen_core.checkpoint.format.manifest import read_manifest
from audiozen_core.checkpoint.format.safetensors_file import write_tensors
from audiozen_core.config.toml.emit import emit
from audiozen_core.errors import RunError
from audiozen_core.inference.card import card
from audiozen_core.inference.enhancer import Enhancer
from audiozen_core.inference.load import CARD, CONFIG, WEIGHTS, FoundNetwork, build_enhancer, find_network
from audiozen_core.kinds import kind_of, section_name
from audiozen_core.storage import atomic
from audiozen_core.storage.atomic import make_folder, make_new_folder, rename, sync_folder, temporary_name, write_new
from audiozen_core.trainer.module_state import ModuleState

_SECONDS = 1.0


def export(
    source: str | Path, folder: str | Path, checkpoint: str | None = None, *, weights: str | None = None
) -> Path:
    """Writes a trained network as a folder that `load` reads, completely or not at all.

    The folder has `config.toml` with the settings that build the network, `model.safetensors` with the weights under
    the same names as in checkpoints, `README.md` (a model card to be completed by hand), and the recipe's modules that
    define the network or its trainer. The exported network is loaded once to check that it computes the same output.

    Args:
        source: a trained network; see `load`.
        folder: the folder to write; it must not exist, or be empty.
        checkpoint: the checkpoint of a run; see `load`.
        weights: the weights to export; see `load`.

    Returns:
        The folder.

    Raises:
        RunError: the folder is not empty; several networks enhance together; or the exported network computes a
            different output, for example because a hook changes the network.
        AudioZenError: as for `load`.
    """
    folder = Path(folder).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"`{folder}` exists and is not empty, so nothing was written", remedy="give a new folder")
    found = find_network(source, checkpoint)
    model = build_enhancer(found, weights=weights, device="cpu")
    suffix = next(suffix for suffix, network in model.trainer.models.items() if network is model.network)
    make_folder(folder.parent)
    temporary = folder.with_name(temporary_name(folder.name))
    make_new_folder(temporary)
    try:
        digest = _write_weights(temporary / WEIGHTS, model, found)
        config = emit(_config(found, suffix, folder.name))
        write_new(temporary / CONFIG, config)
        for name, content in _modules(model, found).items():
            make_folder((temporary / name).parent)
            (temporary / name).write_bytes(content)
        text = card(model, name=folder.name, data=found.data, scores=_scores(found), sha256=digest)
        write_new(temporary / CARD, text)
        _compare(model, temporary)
        sync_folder(temporary)
        if folder.exists():
            folder.rmdir()
        rename(temporary, folder)
    except BaseException:
        atomic.remove(temporary)
        raise
    sync_folder(folder.parent)
    return folder


def _write_weights(path: Path, model: Enhancer, found: FoundNetwork) -> str:
    """Writes the weights, and returns the hash of the tensors, which is also in the metadata of the file."""
    state = ModuleState(model.network).state_dict()
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    if strange := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise RunError(
            f"the state of the network has `{strange[0]}`, which is not a tensor, so it can't be exported",
            remedy="keep it as a buffer",
        )
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    metadata = {
        "format": "pt",
        "sha256": digest.hexdigest(),
        "source": found.path.name,
        "audiozen": __version__,
        "step": json.dumps(model.source.step),
    }
    write_tensors(path, tensors, metadata)
    return digest.hexdigest()


def _scores(found: FoundNetwork) -> dict[str, float]:
    """Returns the score of a checkpoint."""
    score = read_manifest(found.path).score if found.path.is_dir() else None
    return {} if score is None else {"score of the validation": score}


def _config(found: FoundNetwork, suffix: str, name: str) -> dict[str, Any]:
    """Returns the sections that the network needs."""
    values = found.config.values
    kept: dict[str, Any] = {"meta": {"save_dir": "exp", "id": name, **_requires(values["meta"])}}
    for section, table in values.items():
        kind = kind_of(section)
        other = kind and kind.name == "model" and section != section_name("model", suffix)
        # Hooks are left out: their changes are part of the weights.
        if section not in ("meta", "hooks") and not other:
            kept[section] = table
    return kept


def _requires(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {"requires": meta["requires"]} if meta.get("requires") else {}


def _modules(model: Enhancer, found: FoundNetwork) -> dict[str, bytes]:
    """Returns the files of the recipe's own modules, by their paths relative to the folder that they come from."""
    files: dict[str, bytes] = {}
    for file in model.source.files:
        # The list contains a folder before its parent.
        place = next((Path(place) for place in found.import_from if file.is_relative_to(place)), None)
        if place is not None:
            files.setdefault(file.relative_to(place).as_posix(), file.read_bytes())
    return files


def _compare(model: Enhancer, folder: Path) -> None:
    """Raises an error if the exported network and the original network have different outputs."""
    noise = 0.1 * torch.randn(1, round(_SECONDS * model.sr), generator=torch.Generator().manual_seed(0))
    # Python must not write bytecode files into the folder, because it will be published.
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        exported = build_enhancer(find_network(folder), device="cpu")
    finally:
        sys.dont_write_bytecode = writes
    expected, got = model.enhance(noise, model.sr), exported.enhance(noise, model.sr)
    if not torch.equal(expected, got):
        raise RunError(
            "the exported network does not compute what the run's network computes, so nothing was written",
            remedy="a hook or another part of the run may change the network: put the change into the network itself",
        )
