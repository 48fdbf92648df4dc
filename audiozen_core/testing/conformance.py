"""Checks of a plugin's door: its entry points, its signatures, its hooks."""

from __future__ import annotations

from inspect import Parameter
from typing import Any

from audiozen_core import __version__
from audiozen_core.binding.arguments import expected_kind
from audiozen_core.binding.docstrings import parameter_docs, summary
from audiozen_core.binding.signature import signature_of
from audiozen_core.diagnostics.diagnostic import render
from audiozen_core.errors import AudioZenError
from audiozen_core.hooks.checks import answered_hooks, hook_findings
from audiozen_core.kinds import GROUPS, kind_of
from audiozen_core.registry.compatibility import admits
from audiozen_core.registry.index import Entry, forget_installed, installed_index
from audiozen_core.registry.installed import normalised
from audiozen_core.registry.paths import load


def check_entry_points(distribution: str) -> tuple[Entry, ...]:
    """Every entry point of an installed distribution leads to what its group asks for, under a name of its own.

    Args:
        distribution: such as `audiozen-plugin-acme`; it has to be installed (`pip install -e .` will do).

    Returns:
        The entry points.

    Raises:
        AssertionError: what is wrong with one.
    """
    forget_installed()
    index = installed_index()
    entries = tuple(entry for entry in index if entry.distribution == normalised(distribution))
    assert entries, f"{distribution} is not installed, or brings no component"
    for entry in entries:
        what = f"{entry.group}: {entry.name} = {entry.value}"
        assert entry.kind in GROUPS, f"{what}: nothing reads the group; there are audiozen.{', audiozen.'.join(GROUPS)}"
        assert admits(entry.requires, __version__), f"{distribution} asks for audiozen{entry.requires}"
        others = [other for other in index.entries(entry.kind) if other.name == entry.name and other != entry]
        assert not others, f"{what}: {others[0].origin} has a {entry.prose} of that name too"
        try:
            found = load(entry)
        except AudioZenError as error:
            raise AssertionError(f"{what}: {error}") from error
        assert not found.printed, f"{what}: importing it prints {found.printed!r}"
        wrong = expected_kind(entry.kind, found.target)
        assert wrong is None, f"{what}: {wrong and wrong.message}"
        if entry.kind == "hooks" and isinstance(found.target, type):
            check_hooks(found.target)
    return entries


def check_signature(target: Any, kind: str = "") -> None:
    """A component can be checked and documented without being built: its arguments are named, typed and described.

    Args:
        target: the class or function.
        kind: the kind of component, such as `model`, whose given arguments (`params` of an optimiser) are passed over.

    Raises:
        AssertionError: what is missing.
    """
    name = getattr(target, "__name__", str(target))
    assert summary(target), f"{name} has no docstring"
    signature = signature_of(target)
    assert signature is not None, f"the signature of {name} can't be read"
    assert not signature.open, f"{name} takes any keyword, so that a misspelt one goes unnoticed"
    docs, known = parameter_docs(target), kind_of(kind)
    for found in signature.parameters:
        if known and found.name in known.injected:
            continue
        assert found.kind is not Parameter.POSITIONAL_ONLY, f"a TOML can't give `{found.name}` of {name} by position"
        assert found.annotation is not Parameter.empty, f"`{found.name}` of {name} has no type"
        assert found.name in docs, f"the docstring of {name} says nothing of `{found.name}`"


def check_hooks(cls: type) -> dict[str, str]:
    """Every hook of a class is one that AudioZEN calls, with arguments that it gives.

    Args:
        cls: a class whose methods are marked with `hookimpl`.

    Returns:
        The hooks that it answers, each with its method.

    Raises:
        AssertionError: what is wrong with one, or that it answers none.
    """
    if wrong := [render(finding) for finding in hook_findings(cls)]:
        raise AssertionError("\n".join([f"{cls.__name__}:", *wrong]))
    hooks = answered_hooks(cls)
    assert hooks, f"{cls.__name__} answers no hook"
    keeps = [hasattr(cls, name) for name in ("state_dict", "load_state_dict")]
    assert all(keeps) or not any(keeps), f"{cls.__name__} has one of state_dict and load_state_dict, but not the other"
    return hooks
