"""Checks the entry points, the signatures and the hooks of a plugin."""

from __future__ import annotations

import itertools
from inspect import Parameter
from typing import Any

from audiozen_core.binding.docstrings import parameter_docs, summary
from audiozen_core.binding.signature import signature_of
from audiozen_core.diagnostics.diagnostic import render
from audiozen_core.hooks.checks import hook_findings, implemented_hooks
from audiozen_core.inspection.health import metadata_findings, select_distributions, stray_group_findings
from audiozen_core.inspection.probe import findings_about
from audiozen_core.inspection.stray_groups import stray_groups
from audiozen_core.kinds import kind_of
from audiozen_core.registry.entry import Entry
from audiozen_core.registry.index import forget_installed, installed_index
from audiozen_core.registry.installed import normalised
from audiozen_core.registry.paths import load_entry
from audiozen_core.registry.scope import installed_path


def check_entry_points(distribution: str) -> tuple[Entry, ...]:
    """Checks a distribution as `audiozen plugins doctor` does, and each of its hooks as `check_hooks` does.

    Args:
        distribution: the installed distribution, such as `audiozen-plugin-acme`; `pip install -e .` is enough.

    Returns:
        The entry points.

    Raises:
        AssertionError: an entry point is wrong, or another distribution uses the same name; the message has the
            details.
    """
    forget_installed()
    name = normalised(distribution)
    index = select_distributions(installed_index(), [name])
    entries = tuple(entry for entry in index if entry.distribution == name)
    strays = [stray for stray in stray_groups(installed_path()) if stray.distribution == name]
    assert entries or strays or index.problems, f"{distribution} is not installed, or has no components"
    of_imports = itertools.chain.from_iterable(map(findings_about, entries))
    findings = [*metadata_findings(index), *stray_group_findings(strays), *of_imports]
    assert not findings, "\n\n".join(render(finding) for finding in findings)
    for entry in entries:
        hook = load_entry(entry).target if entry.kind == "hooks" else None
        if isinstance(hook, type):
            check_hooks(hook)
    return entries


def check_signature(target: Any, kind: str = "") -> None:
    """Checks that the arguments of a component are named, typed and described, so that users need not read its code.

    Args:
        target: the class or function.
        kind: the kind of component, such as `model`. The arguments that AudioZEN passes, such as an optimiser's
            `params`, are skipped.

    Raises:
        AssertionError: a docstring, type or description is missing.
    """
    name = getattr(target, "__name__", str(target))
    assert summary(target), f"{name} has no docstring"
    signature = signature_of(target)
    assert signature is not None, f"the signature of {name} can't be read"
    assert not signature.open, f"{name} takes any keyword, so a misspelt argument would not be noticed"
    docs, known = parameter_docs(target), kind_of(kind)
    for parameter in signature.parameters:
        if known and parameter.name in known.injected:
            continue
        argument = f"the argument `{parameter.name}` of {name}"
        assert parameter.kind is not Parameter.POSITIONAL_ONLY, (
            f"{argument} is positional-only, so a TOML file can't set it"
        )
        assert parameter.annotation is not Parameter.empty, f"{argument} has no type"
        assert parameter.name in docs, f"the docstring of {name} does not describe `{parameter.name}`"


def check_hooks(cls: type) -> dict[str, str]:
    """Checks that AudioZEN calls every hook that a class implements, with the arguments that the method takes.

    Args:
        cls: a class whose methods are marked with `hookimpl`.

    Returns:
        The hooks that the class implements, each with its method.

    Raises:
        AssertionError: a hook is wrong, or the class implements no hook.
    """
    if wrong := [render(finding) for finding in hook_findings(cls) if finding.severity == "error"]:
        raise AssertionError("\n".join([f"{cls.__name__}:", *wrong]))
    hooks = implemented_hooks(cls)
    assert hooks, f"{cls.__name__} implements no hook"
    saves, loads = hasattr(cls, "state_dict"), hasattr(cls, "load_state_dict")
    assert saves == loads, f"{cls.__name__} has one of state_dict and load_state_dict, but not the other"
    return hooks
