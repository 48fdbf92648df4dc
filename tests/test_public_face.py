"""The package `audiozen` provides the names that users and plugin authors import.

The command `python -m tests.test_public_face` writes `docs/public_api.md`.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

import audiozen
from audiozen_core.binding.docstrings import parameter_docs
from audiozen_core.hooks.specs import Hooks
from audiozen_core.registry.entry import FIRST_PARTY
from audiozen_core.registry.index import installed_index
from audiozen_core.registry.paths import load_entry, resolve
from audiozen_core.scaffold import scaffold
from tests import public_api_page as api
from tests.clean_environment import CleanEnvironment, build_wheel

ROOT = Path(__file__).resolve().parents[1]
FACE = ROOT / "audiozen"
PAGE = ROOT / "docs/public_api.md"
BUILD_ON = ROOT / "docs/build_on_our_classes.md"
PUBLIC = [f"{module}.{name}" for module in api.STUBS for name in import_module(module).__all__]
MODULE_OF_KIND = {"loss_function": "loss"}
"""The module that contains the components of a kind, if its name differs from the kind."""


def public(path):
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def aliases(stub):
    """Returns the names that a stub imports, each with the module that defines it ("" for a sub-module)."""
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            yield from ((alias, node.module or "") for alias in node.names)


def imports(source):
    """Returns the imports in a source text, as pairs of a module and a name ("" if the module itself is imported)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


def packages(source):
    return {module.partition(".")[0] for module, _ in imports(source)}


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------------ public names


@pytest.mark.parametrize("path", PUBLIC)
def test_every_public_name_exists_and_is_documented(path):
    value = public(path)
    assert not (inspect.isclass(value) or inspect.isroutine(value)) or inspect.getdoc(value)


@pytest.mark.parametrize("module", api.STUBS)
def test_module_exports_exactly_the_names_of_its_stub(module):
    found = list(aliases(api.STUBS[module]))
    assert all(alias.asname == alias.name for alias, _ in found), "type checkers re-export only `A as A`"
    assert dir(import_module(module)) == sorted(alias.name for alias, _ in found)
    for alias, home in found:
        expected = getattr(import_module(home), alias.name) if home else import_module(f"{module}.{alias.name}")
        assert getattr(import_module(module), alias.name) is expected


def test_every_module_has_a_stub():
    modules = [path for path in FACE.rglob("*.py") if path.name not in ("_lazy.py", "__main__.py")]
    assert sorted(path.with_suffix(".pyi") for path in modules) == sorted(api.STUBS.values())


def test_misspelt_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'audiozen\.loss' has no attribute 'SoftDTW'"):
        public("audiozen.loss.SoftDTW")


@pytest.mark.parametrize("entry", [entry for entry in installed_index() if entry.distribution == FIRST_PARTY], ids=str)
def test_every_component_of_audiozen_has_a_public_path(entry):
    component = load_entry(entry).target
    path = f"audiozen.{MODULE_OF_KIND.get(entry.kind, entry.kind)}.{component.__name__}"
    assert resolve(path).target is component


def test_names_in_the_arguments_page_can_be_imported():
    from audiozen.loss import SoftDTWLoss
    from audiozen.trainer.base_trainer import BaseTrainer
    from audiozen_core.trainer import base_trainer
    from audiozen_plugins.loss import soft_dtw

    assert BaseTrainer is base_trainer.BaseTrainer
    assert SoftDTWLoss is soft_dtw.SoftDTWLoss


# ------------------------------------------------------------------------------------------ lazy imports


@pytest.mark.parametrize(
    "statement",
    [
        "import audiozen; audiozen.__version__",
        "from audiozen import AudioZenError, hookimpl",
        "from audiozen.hooks import PHASES, Mode, hookimpl",
        "from audiozen.errors import DataError",
        *(f"import {module}" for module in api.STUBS),
    ],
)
def test_torch_is_not_imported_before_a_name_needs_it(statement):
    heavy = "{'torch', 'numpy', 'audiozen_plugins'} & sys.modules.keys()"
    run_python(f"import sys\n{statement}\nassert not {heavy}, {heavy}")


def test_name_that_needs_torch_imports_it():
    run_python("import sys, audiozen\naudiozen.loss.SoftDTWLoss\nassert 'torch' in sys.modules")


# ------------------------------------------------------------------------------------------ direction of imports


@pytest.mark.parametrize("folder", ["audiozen_core", "audiozen_plugins"])
def test_core_and_plugins_never_import_the_public_package(folder):
    paths = list((ROOT / folder).rglob("*.py"))
    assert len(paths) > 20
    assert [path for path in paths if "audiozen" in packages(path.read_text(encoding="utf-8"))] == []


def user_code():
    """Yields the location and the text of all code that users and plugin authors copy."""
    for folder in ("examples", "recipes"):
        for path in (ROOT / folder).rglob("*.py"):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path in (ROOT / "audiozen_core/scaffold/templates").rglob("*.py.template"):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8").replace("{{module}}", "module")
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        yield from ((f"{page.name}, block {number}", text) for number, text in enumerate(blocks))


def test_code_for_users_to_copy_imports_only_public_names():
    code = dict(user_code())
    private = {place for place, text in code.items() if packages(text) & {"audiozen_core", "audiozen_plugins"}}
    assert private == set()
    ours = [name for text in code.values() for name in imports(text) if name[0].partition(".")[0] == "audiozen"]
    assert len(ours) > 10
    for module, name in ours:
        assert name == "" or f"{module}.{name}" in PUBLIC, f"{module}.{name}"


def test_hooks_of_audiozen_import_only_public_objects():
    homes = {(home, alias.name) for stub in api.STUBS.values() for alias, home in aliases(stub)}
    used = {
        (module, name)
        for path in (ROOT / "audiozen_plugins/hooks").glob("*.py")
        for module, name in imports(path.read_text(encoding="utf-8"))
        if module.partition(".")[0] == "audiozen_core"
    }
    # The objects are compared, because a room such as `audiozen_core.checkpoint` re-exports names under a second path.
    objects = {id(getattr(import_module(home), name)) for home, name in homes if home}
    private = [(module, name) for module, name in used if id(getattr(import_module(module), name)) not in objects]
    assert len(used) > 5
    assert private == []


# ------------------------------------------------------------------------------------------ type checkers

PLUGIN = """
from collections.abc import Mapping
from typing import Any

import audiozen
from audiozen import Experiment, hookimpl
from audiozen.loss import SoftDTWLoss
from audiozen.trainer.base_trainer import BaseTrainer, Components
from torch import Tensor


class Trainer(BaseTrainer):
    def __init__(self, components: Components, **kwargs: Any) -> None:
        super().__init__(components, **kwargs)
        self.soft_dtw = SoftDTWLoss(gamma=0.1)

    def training_step(self, batch: Any, batch_idx: int) -> Mapping[str, Tensor]:
        return {"loss": self.soft_dtw(batch["noisy"], batch["clean"])}


class Hook:
    @hookimpl
    def on_epoch_end(self, trainer: BaseTrainer, epoch: int) -> None:
        trainer.log.info("epoch", epoch=epoch)


def run(experiment: Experiment) -> str:
    try:
        experiment.run(resume=True)
    except audiozen.errors.DataError as error:
        return error.remedy
    return audiozen.__version__
"""
MISTAKES = """
class Wrong(BaseTrainer):
    def training_step(self, batch: Any, batch_idx: int) -> str:
        return ""


SoftDTWLoss(gama=0.1)
audiozen.loss.SoftDTW
audiozen.errors.DataError().remedi
Experiment.load(3)
"""
ERRORS = ["override", "call-arg", "attr-defined", "call-arg", "attr-defined", "arg-type"]


def error_codes(report):
    return re.findall(r": error: .*\[([a-z-]+)\]$", report, re.MULTILINE)


def mypy(*arguments, cwd):
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return error_codes(done.stdout) if done.returncode < 2 else pytest.fail(done.stdout + done.stderr)


def test_type_checker_knows_the_types_of_public_names(tmp_path):
    """Uses the mypy settings of this project, so it can reuse the cache of `make types`."""
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "mistakes.py").write_text(PLUGIN + MISTAKES)
    assert mypy(tmp_path / "plugin.py", tmp_path / "mistakes.py", cwd=ROOT) == ERRORS


def test_new_plugin_and_example_plugins_pass_strict_type_checks(tmp_path):
    new = scaffold.new_plugin("acme", tmp_path) / "src"
    examples = sorted(ROOT.glob("examples/*/src"))
    assert len(examples) >= 3
    assert mypy(new, *examples, cwd=ROOT) == []


def test_wheel_contains_the_stubs(tmp_path):
    with zipfile.ZipFile(build_wheel(ROOT, tmp_path)) as archive:
        packed = {name for name in archive.namelist() if name.startswith("audiozen/")}
    assert {stub.relative_to(ROOT).as_posix() for stub in api.STUBS.values()} < packed
    assert "audiozen/py.typed" in packed


@pytest.mark.slow
def test_type_checker_knows_the_types_of_an_installed_wheel(tmp_path):
    environment = CleanEnvironment.make(tmp_path / "environment")
    environment.install(build_wheel(ROOT, tmp_path / "dist"))
    found = environment.run("-c", "import audiozen.loss as m; print(m.__file__, m.SoftDTWLoss)", cwd=tmp_path)
    assert str(environment.folder) in found.stdout, found.stderr
    (tmp_path / "mistakes.py").write_text(PLUGIN + MISTAKES)
    assert mypy("--strict", "--python-executable", environment.python, "mistakes.py", cwd=tmp_path) == ERRORS


@pytest.mark.slow
def test_type_checker_knows_the_types_in_another_folder(tmp_path):
    """As in a project of a user who has installed AudioZEN in this environment, which is an editable installation."""
    (tmp_path / "mistakes.py").write_text(PLUGIN + MISTAKES)
    assert mypy("--strict", "mistakes.py", cwd=tmp_path) == ERRORS


# ------------------------------------------------------------------------------------------ the page


def test_page_of_public_names_is_up_to_date():
    """If this fails, run `python -m tests.test_public_face`."""
    assert PAGE.read_text(encoding="utf-8") == api.page()


CALLED = [
    path
    for path in PUBLIC
    if inspect.isroutine(public(path)) or (inspect.isclass(public(path)) and not api.is_protocol(public(path)))
]


def constructor(code):
    found = (node for node in ast.walk(code) if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    return next((node.args for node in found), None)


@pytest.mark.parametrize("path", CALLED)
def test_page_shows_every_class_and_function_with_all_of_its_arguments(path):
    value = public(path)
    text = api.entry(path.rpartition(".")[2], value)
    assert text in PAGE.read_text(encoding="utf-8")
    code = ast.parse(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
    functions = [node.args for node in ast.walk(code) if isinstance(node, ast.FunctionDef)]
    found = functions[0] if inspect.isroutine(value) else constructor(code)
    if found is None:  # the class has the constructor of its base
        assert inspect.signature(value) == inspect.signature(api.shown_base(value))
        return
    shown = {each.arg for each in (*found.posonlyargs, *found.args, *found.kwonlyargs, found.vararg) if each}
    written = inspect.signature(value).parameters.values()
    assert {parameter.name for parameter in written if parameter.kind is not parameter.VAR_KEYWORD} <= shown


def test_page_shows_types_defaults_descriptions_and_errors():
    text = api.entry("read_audio", audiozen.audio.read_audio)
    assert '    channel: int | Literal["mean"] = "mean",\n) -> Tensor: ...\n' in text
    assert "- `start`: the first sample to read.\n" in text
    assert "Raises:\n\n- `DataError`: " in text
    trainer = api.entry("EnhancementTrainer", audiozen.trainer.EnhancementTrainer)
    assert "        chunk_seconds: float | None = None,\n" in trainer, "it belongs to a private base"
    assert "- `chunk_seconds`: " in trainer
    assert "max_epochs" not in trainer, "BaseTrainer, which is public, has it"


CLASSES = [path for path in PUBLIC if inspect.isclass(public(path))]


@pytest.mark.parametrize("path", CLASSES)
def test_page_describes_every_public_method_that_a_class_has(path):
    cls = public(path)
    text = api.entry(cls.__name__, cls)
    signature, _, rest = text.partition("```\n\n")
    bases = [base for base in cls.__mro__[1:] if base in api.public_classes() or base is Hooks]
    theirs = {name for base in bases for name in dir(base)}
    ours = [base for base in cls.__mro__ if base.__module__.startswith(("audiozen_core", "audiozen_plugins"))]
    names = {name for base in ours for name, value in vars(base).items() if name[0] != "_" and is_method(value)}
    for name in names - theirs - {"forward"}:
        described = re.search(rf"^- `{name}`(?: \(\*yours to override\*\))?: \S", rest, re.MULTILINE)
        assert described, name
        assert f"def {name}(" in signature, name


def is_method(value):
    if hasattr(value, "audiozen_impl"):
        return False  # the page of hooks describes it
    return inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)


def test_page_shows_what_an_author_may_use_and_override():
    trainer = api.entry("BaseTrainer", audiozen.trainer.BaseTrainer)
    assert "- `training_step` (*yours to override*): Runs the forward pass for one batch.\n" in trainer
    assert "- `train`: Trains until" in trainer
    assert "- `stft`: transforms waveforms" in trainer, "a private base has it"
    enhancement = api.entry("EnhancementTrainer", audiozen.trainer.EnhancementTrainer)
    assert "- `enhance` (*yours to override*): " in enhancement
    assert "- `enhance_file`: " in enhancement
    assert "`train`" not in enhancement, "BaseTrainer, which is public, has it"
    patience = api.entry("Patience", audiozen.hooks.Patience)
    assert "Hooks: `stop_reason`" in patience
    assert "Settings of the class: `default = True`, `affects_training = False`" in patience
    assert "    @classmethod\n    def load(" in api.entry("Experiment", audiozen.Experiment)


def test_pages_agree_on_what_may_be_overridden():
    rows = re.findall(r"^\| (`audiozen\..*?) \|.*\| (.*) \|$", BUILD_ON.read_text(encoding="utf-8"), re.MULTILINE)
    table = {
        name: set(re.findall(r"`(\w+)`", names)) for classes, names in rows for name in re.findall(r"(\w+)`", classes)
    }
    shown = {name: set(names) - {*api.STEPS} for name, names in api.OVERRIDABLE.items()}
    listed = {name: names - {*api.STEPS} for name, names in table.items() if names or name in shown}
    assert len(listed) >= 6
    assert listed == shown


@pytest.mark.parametrize("path", CALLED)
def test_every_argument_of_a_class_or_function_is_described(path):
    value = public(path)
    base = api.shown_base(value) if inspect.isclass(value) else None
    described = re.findall(r"^- `(\w+)`: ", api.entry(path, value), re.MULTILINE)
    assert inspect.signature(value).parameters.keys() - {"kwargs"} <= {*described, *parameter_docs(base)}


def test_every_link_on_the_page_leads_to_a_heading():
    text = PAGE.read_text(encoding="utf-8")
    links = re.findall(r"\(#([^)]+)\)", text)
    headings = [heading.lower() for heading in re.findall(r"^### `(.+)`$", text, re.MULTILINE)]
    assert len(headings) == len(set(headings)) > 100
    assert set(links) == set(headings)


if __name__ == "__main__":
    PAGE.write_text(api.page(), encoding="utf-8")
