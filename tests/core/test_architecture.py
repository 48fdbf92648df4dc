"""The rules of the architecture: imports point downwards, and the core never imports plugins."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import audiozen_core
from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.binding.signature import signature_of
from audiozen_core.registry.entry import FIRST_PARTY
from audiozen_core.registry.index import installed_index
from audiozen_core.registry.paths import resolve
from audiozen_core.trainer.base_trainer import BaseTrainer
from tests.copied_tree import copied_tree

CORE = Path(audiozen_core.__file__).parent
PLUGINS = CORE.parent / "audiozen_plugins"
PAGE = CORE.parent / "docs/architecture.md"

# The floor of every room and every loose module. Code may import from its own floor and from lower floors.
FLOORS = {
    8: ("cli", "testing"),
    7: ("comparison", "inference", "inspection", "listening", "profiling", "replay", "report", "runs", "tuning"),
    6: ("experiment", "scoring"),
    5: ("trainer",),
    4: ("config", "data", "pages"),
    3: ("checkpoint", "registry", "hooks", "audio", "distributed", "launcher", "scaffold"),
    2: ("binding", "errors", "logging", "results"),
    1: ("storage", "diagnostics", "kinds", "__init__"),
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
MOST_FLOORS = 8
MOST_LOOSE_MODULES = 6
LONGEST_FILE = 400


def modules(root: Path) -> Iterator[tuple[Path, str]]:
    """Yields the path and the dotted name of every module in a package, also of each stub (`.pyi`)."""
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.pyi")]):
        parts = path.relative_to(root.parent).with_suffix("").parts
        yield path, ".".join(parts)


def imported(path: Path, module: str) -> tuple[str, ...]:
    """Returns the dotted names that a module imports, including imports in functions and for the type checker."""
    return _imported(path.read_text(encoding="utf-8"), module)


@functools.lru_cache(None)  # most files of a copied tree are the same as in the original
def _imported(text: str, module: str) -> tuple[str, ...]:
    names: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import starts in the package: one dot is the package of the module, two its parent.
            package = module.split(".")[: -node.level] if node.level else []
            home = ".".join([*package, *filter(None, [node.module])])
            # `from audiozen_core import logging` imports the module `audiozen_core.logging`.
            names += (f"{home}.{alias.name}" for alias in node.names)
    return tuple(names)


def room(module: str) -> str:
    """Returns the folder or loose module of `audiozen_core` that contains a dotted name."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def rooms_of(root: Path) -> dict[str, set[str]]:
    """Maps each room to the rooms that it imports from."""
    found: dict[str, set[str]] = {}
    for path, module in modules(root):
        names = [name for name in imported(path, module) if name.partition(".")[0] == "audiozen_core"]
        targets = {room(name) for name in names}
        # A target that is not a room is a name in the package itself, such as `__version__`.
        targets = {target if target in FLOOR or (root / target).exists() else "__init__" for target in targets}
        found.setdefault(room(module), set()).update(targets)
    return found


def violations(root: Path) -> list[str]:
    """Returns a description of each broken rule in the core at `root`."""
    found = []
    for path, module in modules(root):
        if room(module) not in FLOOR:
            found.append(f"{path.relative_to(root)} has no floor")
    for source, targets in rooms_of(root).items():
        for target in targets:
            if source in FLOOR and target in FLOOR and FLOOR[target] > FLOOR[source]:
                found.append(f"{source} (floor {FLOOR[source]}) imports {target} (floor {FLOOR[target]})")
    for path, module in modules(root):
        above = [name for name in imported(path, module) if _is_above_the_core(name)]
        found += [f"{path.relative_to(root)} imports {name}" for name in above]
    for what, below in (("rooms", rooms_of(root)), ("modules", _modules_below(root))):
        if circle := _circle(below):
            found.append(f"{what} import each other in a circle: {', '.join(circle)}")
    loose = [path.stem for path in root.glob("*.py") if path.stem != "__init__"]
    if len(loose) > MOST_LOOSE_MODULES:
        found.append(f"{len(loose)} loose modules: {', '.join(sorted(loose))}")
    return [*found, *_too_long(root)]


def _modules_below(root: Path) -> dict[str, set[str]]:
    """Maps each module to the modules that it imports."""
    names = {module.removesuffix(".__init__") for _, module in modules(root)}
    below: dict[str, set[str]] = {}
    for path, module in modules(root):  # a module and its stub have the same name
        below.setdefault(module.removesuffix(".__init__"), set()).update(
            target
            for name in imported(path, module)
            for target in (name, name.rpartition(".")[0])
            if target in names and target != "audiozen_core"
        )
    return below


def _circle(below: dict[str, set[str]]) -> list[str]:
    """Returns what remains after everything that imports nothing of the rest has been removed: circles and above."""
    rest = {name: targets - {name} for name, targets in below.items()}
    while leaves := [name for name, targets in rest.items() if not targets & rest.keys()]:
        for name in leaves:
            del rest[name]
    return sorted(rest)


def _too_long(root: Path) -> Iterator[str]:
    for path in sorted(root.rglob("*.py")):  # the stub is generated
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > LONGEST_FILE:
            yield f"{path.relative_to(root)} has {lines} lines"


def _is_above_the_core(name: str) -> bool:
    return name.partition(".")[0] in ("audiozen_plugins", "audiozen")


def test_imports_point_downwards_and_every_file_has_a_floor():
    assert violations(CORE) == []


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("storage/atomic.py", "from audiozen_core.trainer.state import Progress", "storage (floor 1) imports trainer"),
        ("errors.py", "import audiozen_core.config.load", "errors (floor 2) imports config (floor 4)"),
        ("hooks/specs.py", "if 0:\n    from audiozen_core.trainer import state", "hooks (floor 3) imports trainer"),
        ("kinds.py", "def late():\n    from audiozen_core import logging", "kinds (floor 1) imports logging (floor 2)"),
        ("errors.py", "def late():\n    from .trainer import state", "errors (floor 2) imports trainer (floor 5)"),
        ("storage/append.py", "from ..config import load", "storage (floor 1) imports config (floor 4)"),
        ("experiment/build.py", "import audiozen_plugins.loss", "experiment/build.py imports audiozen_plugins.loss"),
        ("storage/atomic.py", "from audiozen_core.storage import append", "modules import each other in a circle"),
        ("hooks/marker.pyi", "from audiozen_core.trainer import state", "hooks (floor 3) imports trainer (floor 5)"),
        ("hooks/specs.py", "import audiozen_core.hooks.marker", "modules import each other in a circle"),
        ("errors.py", "#\n" * 400, "errors.py has 6"),
        ("attic.py", "", "attic.py has no floor"),
        ("cellar/__init__.py", "", "cellar/__init__.py has no floor"),
    ],
)
def test_broken_rule_is_reported(tmp_path, file, text, complaint):
    """The negative control: a copy of the core breaks each rule."""
    core = copied_tree(tmp_path) / "audiozen_core"
    path = core / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{path.read_text(encoding='utf-8') if path.exists() else ''}\n{text}\n", encoding="utf-8")
    assert any(complaint in found for found in violations(core)), violations(core)


def test_circle_of_rooms_on_one_floor_is_reported(tmp_path):
    core = copied_tree(tmp_path) / "audiozen_core"
    for file, target in (("audio/stft.py", "hooks.specs"), ("hooks/specs.py", "audio.stft")):
        with (core / file).open("a", encoding="utf-8") as opened:
            opened.write(f"\n\ndef late():\n    import audiozen_core.{target}\n")
    assert any("rooms import each other in a circle" in found for found in violations(core))


def test_number_of_loose_modules_is_limited(tmp_path):
    core = copied_tree(tmp_path) / "audiozen_core"
    for number in range(MOST_LOOSE_MODULES):
        (core / f"loose{number}.py").touch()
    assert any("loose modules" in found for found in violations(core))


def test_number_of_floors_is_limited():
    assert len(FLOORS) <= MOST_FLOORS


def test_no_file_of_the_plugins_is_too_long():
    assert list(_too_long(PLUGINS)) == []


def test_table_of_floors_lists_exactly_the_existing_rooms():
    existing = {path.stem for path in CORE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert FLOOR.keys() == existing


def test_page_shows_every_room_on_its_floor():
    page = PAGE.read_text(encoding="utf-8")
    diagram = page.partition("```text\n")[2].partition("```")[0]
    shown: dict[int, set[str]] = {}
    for number, name in re.findall(r"^(?:floor (\d)|       )  ([\w./]+) ", diagram, re.MULTILINE):
        floor = int(number or min(shown))
        shown.setdefault(floor, set()).add(name.partition("/")[0].removesuffix(".py"))
    assert shown == {floor: {*rooms} - {"__init__"} for floor, rooms in FLOORS.items()}


def test_files_that_the_page_names_exist():
    names = set(re.findall(r"[\w./]+\.pyi?\b", PAGE.read_text(encoding="utf-8")))
    assert len(names) > 100
    examples = {"x.py", "x.pyi"}
    assert {name for name in names - examples if not _found(name)} == set()
    assert not _found("trainer/no_such_file.py"), "the negative control"


def _found(name: str) -> bool:
    """Returns whether a file exists, seen from the root of the project or from any folder of the packages."""
    return (CORE.parent / name).exists() or any(any(package.rglob(name)) for package in (CORE, PLUGINS))


# The only names of components in the core. A tiny experiment for tests needs components, and the error of a batch that
# can't be collated checks whether `pad_collate` could, and works without it.
NAMED = {("testing/tiny.py", "*"), ("data/collating.py", "audiozen.dataset.pad_collate")}
_DOTTED = r"\baudiozen(?:_plugins)?\.(?:hooks|loss|model|dataset|metric|trainer|lr_scheduler)\.\w+"
# Components whose names are also words of the core, such as the argument `patience` of the trainer.
WORDS = {"checkpoint", "patience", "progress", "samples", "signals", "snr"}


def named_components(root: Path) -> set[tuple[str, str]]:
    """Returns the components of AudioZEN that the strings of the core name, except docstrings and other examples."""
    names = {entry.name for entry in installed_index() if entry.distribution == FIRST_PARTY} - WORDS
    found = set()
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        comments = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in comments:
                spelt = {node.value, *re.findall(r"`(\w+)`", node.value)} & names
                spelt |= set(re.findall(_DOTTED, node.value))
                found |= {(str(path.relative_to(root)), name) for name in spelt}
    return found


def test_core_names_no_component_of_the_plugins():
    found = named_components(CORE)
    assert {(file, name) for file, name in found if not NAMED & {(file, name), (file, "*")}} == set()
    assert ("testing/tiny.py", "enhancement") in found, "the negative control"
    assert NAMED - {("testing/tiny.py", "*")} <= found


# The arguments of components that the core names, and the conventions of docs/architecture.md that allow this.
NAMED_ARGUMENTS = {
    ("testing/tiny.py", "*"),  # the settings of the tiny experiment
    ("config/renamed_keys.py", "warmup_steps"),  # an argument of the first trainer of AudioZEN
    ("results/result_folders.py", "save_enhanced"),
    ("trainer/scheduler.py", "total_steps"),
    ("scoring/chosen.py", "metrics"),
    ("inspection/model_size.py", "domain"),
    ("inspection/model_size.py", "layout"),
}
# Arguments without an underscore are mostly words that the core uses, too. These are not.
SINGLE_WORDS = {"metrics", "domain", "layout"}


def arguments_of_plugins() -> set[str]:
    """Returns the arguments of AudioZEN's components, except those that the core defines and words of one part."""
    signatures = [
        signature_of(resolve(entry.spelling, section=entry.kind).target)
        for entry in installed_index()
        if entry.distribution == FIRST_PARTY and entry.kind not in ("pretrained", "commands", "hookspecs", "section")
    ]
    names = {parameter.name for signature in signatures if signature for parameter in signature.parameters}
    own = {name for cls in (BaseTrainer, Acoustics) for name in signature_of(cls).names()}
    return {name for name in names - own if "_" in name} | SINGLE_WORDS


def named_arguments(root: Path, names: set[str]) -> set[tuple[str, str]]:
    """Returns the names that strings of the core consist of or have in backticks, except in docstrings, in other
    examples, and in files with an argument of their own that has this name.
    """
    found = set()
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        comments = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        own = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in comments:
                # Without backticks, `metrics` is a key of our own files, too.
                spelt = {node.value} - {"metrics"} | set(re.findall(r"`(\w+)", node.value))
                found |= {(str(path.relative_to(root)), name) for name in spelt & names - own}
    return found


def test_core_names_no_argument_of_the_plugins():
    names = arguments_of_plugins()
    assert {"save_enhanced", "chunk_seconds", "metric_workers", "warmup_steps"} <= names
    assert not {"n_fft", "save_max_score"} & names
    found = named_arguments(CORE, names)
    assert {(file, name) for file, name in found if not NAMED_ARGUMENTS & {(file, name), (file, "*")}} == set()
    assert NAMED_ARGUMENTS - {("testing/tiny.py", "*")} <= found
    assert ("testing/tiny.py", "clip_seconds") in found, "the negative control"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["check", "--help"], ["evaluate", "--help"], ["plugins"]]
)
def test_help_and_lists_do_not_import_torch(arguments):
    code = (
        f"import sys; sys.argv = ['audiozen', *{arguments!r}]\n"
        "from audiozen_core.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "heavy = {'torch', 'numpy', 'audiozen_plugins'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
