"""What is public, against what it was in the last release.

`public_api.json` holds the signatures of that release. At a release, once the changelog has its heading:
`python -m tests.core.test_public_api`.
"""

import ast
import importlib
import inspect
import json
import re
from pathlib import Path

import click
import pytest

import audiozen_core
from audiozen_core.binding.signature import signature_of
from audiozen_core.cli.main import COMMANDS
from audiozen_core.hooks import specs
from audiozen_core.hooks.checks import HOOK_NAMES
from audiozen_core.public import PUBLIC
from audiozen_core.registry.index import KINDS, installed_index
from audiozen_core.registry.paths import load

RELEASED = Path(__file__).with_name("public_api.json")
ROOT = Path(audiozen_core.__file__).parents[1]


def surface() -> dict[str, str]:
    """Every public name with its signature."""
    found = {}
    for module, names in PUBLIC.items():
        for name in names:
            found |= described(f"{module}.{name}", getattr(importlib.import_module(module), name))
    for hook in HOOK_NAMES:
        found[f"hook {hook}"] = str(inspect.signature(getattr(specs, hook)))
    for name, (module, _) in COMMANDS.items():
        found |= options(f"audiozen {name}", importlib.import_module(module).command)
    for entry in installed_index():
        if entry.distribution == "audiozen":
            signature = signature_of(load(entry).target)
            text = ", ".join(str(parameter.replace(annotation=parameter.empty)) for parameter in signature.parameters)
            found[f"{entry.group} {entry.name}"] = f"({text})"
    found["groups"] = ", ".join(f"audiozen.{kind}" for kind in KINDS)
    return dict(sorted(found.items()))


def described(name, value):
    if inspect.isclass(value):
        methods = {key: member for key, member in vars(value).items() if not key.startswith("_")}
        inner = {f"{name}.{key}": signature(member) for key, member in methods.items()}
        return {name: signature(value), **{key: text for key, text in inner.items() if text}}
    return {name: signature(value) or repr(value)}


def signature(value):
    if isinstance(value, property):
        return "property"
    value = getattr(value, "__func__", value)
    try:
        # Addresses are of this process.
        return re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(value))) if callable(value) else ""
    except ValueError:
        return ""


def options(name, command):
    names = [found.opts[-1] for found in command.params if found.opts[-1] != "--help"]
    found = {name: " ".join(sorted(names))}
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        found |= options(f"{name} {inner.name}", inner)
    return found


def unreleased(text):
    """The part of the changelog that is about what no release has."""
    match = re.search(r"^## \[Unreleased\]\n(?P<text>.*?)(?=^## \[|\Z)", text, re.MULTILINE | re.DOTALL)
    return match["text"]


def unmentioned(before, now, changelog):
    """What was public in the last release, is another thing now, and is not named in the changelog."""
    changed = [name for name, text in before.items() if now.get(name) != text]
    return [name for name in changed if not re.search(rf"`[^`]*\b{re.escape(last(name))}\b[^`]*`", changelog)]


def last(name):
    return re.split(r"[. ]", name)[-1]


def test_no_public_signature_changes_without_a_word_in_the_changelog():
    """If this fails: say in CHANGELOG.md, below [Unreleased], what is new about the name, in backticks."""
    changelog = unreleased((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    before = json.loads(RELEASED.read_text(encoding="utf-8"))
    assert unmentioned(before["signatures"], surface(), changelog) == []


def test_the_signatures_are_those_of_the_last_release():
    assert json.loads(RELEASED.read_text(encoding="utf-8"))["version"] == audiozen_core.__version__


def test_a_change_would_be_noticed_and_a_word_would_do():
    before = {"audiozen_core.audio.stft.Stft": "(acoustics)", "hook on_epoch_end": "(trainer)", "same": "()"}
    now = {"audiozen_core.audio.stft.Stft": "(acoustics, window)", "same": "()", "new": "()"}
    assert unmentioned(before, now, "") == ["audiozen_core.audio.stft.Stft", "hook on_epoch_end"]
    assert unmentioned(before, now, "- `Stft` takes a window. Stft and on_epoch_end") == ["hook on_epoch_end"]
    assert unmentioned(before, now, "- `Stft(window=…)`\n- the hook `on_epoch_end` is gone") == []
    assert unreleased("# C\n\n## [Unreleased]\n\nnew\n\n## [0.1.0]\n\nold\n").strip() == "new"


def test_every_public_name_is_there_and_documented():
    for module, names in PUBLIC.items():
        for name in names:
            value = getattr(importlib.import_module(module), name)
            assert not callable(value) or name in ("Mode", "hookimpl") or inspect.getdoc(value), name


@pytest.mark.parametrize("folder", ["audiozen_plugins/hooks", "examples"])
def test_hooks_and_plugins_import_public_names_alone(folder):
    imported = 0
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "audiozen_core":
                for alias in node.names:
                    assert alias.name in PUBLIC.get(node.module, ()), f"{path.name}: {node.module}.{alias.name}"
                    imported += 1
    assert imported > 5


if __name__ == "__main__":
    text = json.dumps({"version": audiozen_core.__version__, "signatures": surface()}, indent=1, ensure_ascii=False)
    RELEASED.write_text(text + "\n", encoding="utf-8")
