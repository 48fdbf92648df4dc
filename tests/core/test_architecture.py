"""The rules of the house: imports point downwards, and the core knows no plugin."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import audiozen_core

CORE = Path(audiozen_core.__file__).parent
PLUGINS = CORE.parent / "audiozen_plugins"

# Module prefix to floor, longest prefix first; what is not listed stands on floor 1.
FLOORS = {
    "cli": 6,
    "experiment": 5,
    "building": 5,
    "inspection": 5,
    "testing": 6,
    "provenance": 5,
    "resuming": 5,
    "trial": 5,
    "trainer": 4,
    "config": 3,
    "plugins": 3,
    "hook_calls": 3,
    "hook_checks": 3,
    "registry": 2,
    "checkpoint": 2,
    "hookspecs": 2,
}


def modules(root):
    return [(path, path.relative_to(root).with_suffix("").parts) for path in sorted(root.rglob("*.py"))]


def imported(path):
    """The dotted names that a module imports when it runs, those for the type checker left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def floor(parts):
    return FLOORS.get(parts[0], 1)


@pytest.mark.parametrize(("path", "parts"), modules(CORE), ids=lambda value: str(value)[-30:])
def test_imports_of_the_core_point_downwards(path, parts):
    for name in imported(path):
        package, _, rest = name.partition(".")
        assert package != "audiozen_plugins", f"{path} knows the plugins"
        if package == "audiozen_core" and rest:
            below = rest.split(".")
            assert floor(below) <= floor(parts), f"{path} (floor {floor(parts)}) imports {name}"


def test_the_rule_would_notice_an_import_upwards():
    assert floor(("checkpoint", "store")) < floor(["trainer", "base_trainer"])


@pytest.mark.parametrize(("path", "_parts"), modules(CORE) + modules(PLUGINS), ids=lambda value: str(value)[-30:])
def test_no_room_is_too_large(path, _parts):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["check", "--help"], ["plugins"]])
def test_help_and_lists_import_no_torch(arguments):
    code = (
        f"import sys; sys.argv = ['audiozen', *{arguments!r}]\n"
        "from audiozen_core.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "heavy = {'torch', 'numpy', 'audiozen_plugins'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
