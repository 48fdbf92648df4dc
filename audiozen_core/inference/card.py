"""The model card of an exported network: facts about the network, its training data and its scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from audiozen_core import __version__
from audiozen_core.config.toml.emit import emit
from audiozen_core.inference.enhancer import Enhancer

_TO_COMPLETE = "(to be completed)"


def card(model: Enhancer, *, name: str, data: Mapping[str, Any], scores: Mapping[str, float], sha256: str) -> str:
    """Returns the text of `README.md` of an exported folder.

    Args:
        model: the network.
        name: the name of the folder.
        data: the sections of the training data in the run's configuration; empty if they are not known.
        scores: the scalars of the checkpoint, such as `score`.
        sha256: the hash of the weights.
    """
    weights = sum(weight.numel() for weight in model.network.parameters())
    facts = {
        "network": f"`{type(model.network).__name__}`, {weights:,} weights",
        "sample rate": f"{model.sr} Hz",
        "trained": f"epoch {model.source.epoch}, step {model.source.step}" if model.source.step else "",
        "weights": model.source.weights,
        "scores": ", ".join(f"{key} {value:.4g}" for key, value in scores.items()),
        "SHA-256 of the weights": f"`{sha256}`",
        "made with": f"AudioZEN {__version__}",
        "licence": _TO_COMPLETE,
        "authors": _TO_COMPLETE,
    }
    return "\n".join(_lines(name, facts, data))


def _lines(name: str, facts: Mapping[str, str], data: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {name}"
    yield from ("", f"What it is for: {_TO_COMPLETE}", "", "| | |", "| --- | --- |")
    yield from (f"| {fact} | {value} |" for fact, value in facts.items() if value)
    yield from ("", "## Use", "", "```shell", "audiozen enhance THIS_FOLDER noisy/ -o enhanced/", "```")
    yield from ("", "## Trained on", "")
    yield from (["```toml", emit(data).rstrip(), "```"] if data else [_TO_COMPLETE])
    yield ""
