"""Checks the entry points, the signatures and the hooks of a plugin."""

from __future__ import annotations

from inspect import Parameter
from typing import Any

from audiozen_core import __version__
from audiozen_core.binding.arguments import check_kind
from audiozen_core.binding.docstrings import parameter_docs, summary
from audiozen_core.binding.signature import signature_of
from audiozen_core.diagnostics.diagnostic import render
from audiozen_core.errors import AudioZenError
from audiozen_core.hooks.checks import hook_findings, implemented_hooks
from audiozen_core.kinds import GROUPS, kind_of
from audiozen_core.registry.compatibility import admits
from audiozen_core.registry.index import Entry, forget_installed, installed_index
from audiozen_core.registry.installed import normalised
from audiozen_core.registry.paths import load


def check_entry_points(distribution: str) -> tuple[Entry, ...]:
    """Checks that each entry point of a distribution leads to a component of its group, under an unused name.

    Args:
        distribution: such as `audiozen-plugin-acme`. It has to be installed; `pip install -e .` is enough.

    Returns:
        The entry points.

    Raises:
        AssertionError: an entry point is wrong; the message says how.
    """
    forget_installed()
    index = installed_index()
    entries = tuple(entry for entry in index if entry.distribution == normalised(distribution))
    assert entries, f"{distribution} is not installed, or has no components"
    for entry in entries:
        what = f"{entry.group}: {entry.name} = {entry.value}"
        assert entry.kind in GROUPS, (
            f"{what}: AudioZEN does not read this group; the groups are audiozen.{', audiozen.'.join(GROUPS)}"
        )
        assert admits(entry.requires, __version__), f"{distribution} requires audiozen{entry.requires}"
        others = [other for other in index.entries(entry.kind) if other.name == entry.name and other != entry]
        assert not others, f"{what}: {others[0].origin} has a {entry.prose} of that name too"
        try:
            found = load(entry)
        except AudioZenError as error:
            raise AssertionError(f"{what}: {error}") from error
        assert not found.printed, f"{what}: importing it prints {found.printed!r}"
        wrong = check_kind(entry.kind, found.target)
        assert wrong is None, f"{what}: {wrong and wrong.message}"
        if entry.kind == "hooks" and isinstance(found.target, type):
            check_hooks(found.target)
    return entries


def check_signature(target: Any, kind: str = "") -> None:
    """Checks that the arguments of a component are named, typed and described, so that users need not read its code.

    Args:
        target: the class or function.
        kind: the kind of component, such as `model`, whose injected arguments (`params` of an optimiser) are skipped.

    Raises:
        AssertionError: a docstring, type or description is missing.
    """
    name = getattr(target, "__name__", str(target))
    assert summary(target), f"{name} has no docstring"
    signature = signature_of(target)
    assert signature is not None, f"the signature of {name} can't be read"
    assert not signature.open, f"{name} takes any keyword, so a misspelt one is not noticed"
    docs, known = parameter_docs(target), kind_of(kind)
    for found in signature.parameters:
        if known and found.name in known.injected:
            continue
        assert found.kind is not Parameter.POSITIONAL_ONLY, f"a TOML can't give `{found.name}` of {name} by position"
        assert found.annotation is not Parameter.empty, f"`{found.name}` of {name} has no type"
        assert found.name in docs, f"the docstring of {name} does not describe `{found.name}`"


def check_hooks(cls: type) -> dict[str, str]:
    """Checks that AudioZEN calls every hook of a class, with the arguments that the method takes.

    Args:
        cls: a class whose methods are marked with `hookimpl`.

    Returns:
        The hooks that it implements, each with its method.

    Raises:
        AssertionError: a hook is wrong, or the class implements none.
    """
    if wrong := [render(finding) for finding in hook_findings(cls)]:
        raise AssertionError("\n".join([f"{cls.__name__}:", *wrong]))
    hooks = implemented_hooks(cls)
    assert hooks, f"{cls.__name__} implements no hook"
    keeps = [hasattr(cls, name) for name in ("state_dict", "load_state_dict")]
    assert all(keeps) or not any(keeps), f"{cls.__name__} has one of state_dict and load_state_dict, but not the other"
    return hooks
