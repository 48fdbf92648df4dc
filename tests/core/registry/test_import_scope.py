from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from audiozen_core.registry.errors import PathError
from audiozen_core.registry.paths import resolve
from audiozen_core.registry.scope import RESERVED, ImportScope, installed_path


def target(path):
    return resolve(path).target


def state():
    return list(sys.path), dict(sys.modules), list(sys.meta_path)


def test_folder_of_the_toml_file_and_its_parent_come_first_on_the_path(write, tmp_path):
    recipe = write("data/recipe", trainer="class Trainer: place = 'recipe'")
    write("data", trainer="class Trainer: place = 'parent'", common="class Loss: place = 'parent'")
    with ImportScope.of_file(recipe / "baseline.toml"):
        assert sys.path[:2] == [str(recipe), str(tmp_path / "data")]
        assert target("trainer.Trainer").place == "recipe"
        assert target("common.Loss").place == "parent"


def test_local_module_may_import_another_local_module(write):
    recipe = write("a", model="class Model: ...", trainer="from model import Model\nclass Trainer: net = Model")
    with ImportScope([recipe]):
        assert target("trainer.Trainer").net is target("model.Model")


def test_two_experiments_use_their_own_trainer_module(write):
    first = write("a", trainer="from model import Model\nclass Trainer: net = Model", model="class Model: name = 'a'")
    second = write("b", trainer="from model import Model\nclass Trainer: net = Model", model="class Model: name = 'b'")
    with ImportScope([first]):
        assert target("trainer.Trainer").net.name == "a"
    with ImportScope([second]):
        assert target("trainer.Trainer").net.name == "b"


def test_experiment_does_not_see_the_trainer_module_of_another(write):
    first, second = write("a", trainer="class Trainer: ..."), write("b")
    with ImportScope([first]):
        target("trainer.Trainer")
    with ImportScope([second]), pytest.raises(PathError, match="the module `trainer` does not exist"):
        target("trainer.Trainer")


def test_leaving_the_scope_restores_import_path_and_modules(write):
    recipe = write("a", {"nets/__init__": "", "nets/small": "x = 1"}, trainer="import nets.small\nclass Trainer: ...")
    before = state()
    with ImportScope([recipe]):
        target("trainer.Trainer")
        assert "nets.small" in sys.modules, "negative control: the module is imported inside the scope"
    assert state() == before


def test_leaving_the_scope_after_an_error_restores_path_and_modules(write):
    half = {"half/__init__": "import half.part\n1 / 0", "half/part": ""}
    recipe = write("a", half, trainer="import model\nraise ValueError", model="x = 1")
    before = state()
    with contextlib.suppress(KeyError), ImportScope([recipe]):
        for path in ("trainer.Trainer", "half.Half"):
            with pytest.raises(PathError, match="fails while it is imported"):
                target(path)
        assert "half.part" in sys.modules, "negative control: Python keeps a submodule of a failed package"
        raise KeyError
    assert state() == before


def test_entering_a_scope_again_restores_its_modules(write):
    scope = ImportScope([write("a", trainer="class Trainer: ...", late="from trainer import Trainer")])
    with scope:
        trainer = target("trainer.Trainer")
    with scope:
        assert target("trainer.Trainer") is trainer
        assert target("late.Trainer") is trainer, "a later import uses the same class"


def test_two_scopes_of_the_same_folder_have_separate_modules(write):
    recipe = write("a", trainer="class Trainer: ...")
    with ImportScope([recipe]):
        first = target("trainer.Trainer")
    with ImportScope([recipe]):
        assert target("trainer.Trainer") is not first


def test_only_the_innermost_scope_is_active(write):
    outer = write("a", trainer="class Trainer: name = 'a'", only_a="x = 1")
    inner = write("b", trainer="class Trainer: name = 'b'")
    before = state()
    with ImportScope([outer]) as first:
        kept = target("trainer.Trainer")
        with ImportScope([inner]):
            assert target("trainer.Trainer").name == "b"
            assert str(outer) not in sys.path
            with pytest.raises(PathError, match="the module `only_a` does not exist"):
                target("only_a.x")
            with first:
                assert target("trainer.Trainer") is kept
        assert target("trainer.Trainer") is kept
    assert state() == before


def test_leaving_scopes_in_the_wrong_order_is_an_error(write):
    first, second = ImportScope([write("a")]), ImportScope([write("b")])
    with first:
        second.__enter__()
        with pytest.raises(RuntimeError, match="reverse order"):
            first.__exit__(None, None, None)
        second.__exit__(None, None, None)


# ------------------------------------------------------------------------------------------ shadowing


@pytest.mark.parametrize("imported_before", [False, True])
def test_local_module_shadows_an_installed_one_inside_the_scope(write, site, imported_before):
    write("site", az_trainer="class Trainer: place = 'installed'")
    recipe = write("a", az_trainer="class Trainer: place = 'recipe'")
    installed = importlib.import_module("az_trainer") if imported_before else None
    with ImportScope([recipe]):
        assert target("az_trainer.Trainer").place == "recipe"
    assert sys.modules.get("az_trainer") is installed
    assert importlib.import_module("az_trainer").Trainer.place == "installed"


def test_shadowed_package_is_restored_with_its_submodules(write, site):
    write("site", {"az_pack/__init__": "", "az_pack/part": "x = 1"})
    part = importlib.import_module("az_pack.part")
    with ImportScope([write("a", az_pack="class Net: ...")]):
        assert target("az_pack.Net").__name__ == "Net"
        assert "az_pack.part" not in sys.modules
    assert sys.modules["az_pack.part"] is part


@pytest.mark.parametrize("name", ["logging", "torch", "queue", "audiozen_core", "json", "numpy"])
def test_local_file_with_a_reserved_name_is_ignored(write, name):
    recipe = write("a", **{name: "raise SystemExit('the process is broken')"})
    before = importlib.import_module(name)
    with ImportScope([recipe]) as scope:
        assert importlib.import_module(name) is before
        assert scope.hidden(f"{name}.sub") == recipe / f"{name}.py"
    assert sys.modules[name] is before


def test_local_file_does_not_shadow_a_standard_module(write):
    recipe = write("a", wave="own = True", colorsys="own = True", mine="own = True")
    program = (
        "import sys\n"
        "from audiozen_core.registry.paths import resolve\nfrom audiozen_core.registry.scope import ImportScope\n"
        f"with ImportScope([{str(recipe)!r}]):\n"
        "    assert not {'wave', 'colorsys'} & sys.modules.keys()\n"
        "    import wave, colorsys, mine\n"
        "    assert wave.open and colorsys.rgb_to_hsv and mine.own\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0, done.stderr


def test_reserved_name_is_ignored_if_the_folder_is_already_on_the_path(write):
    recipe = write("a", wave="own = True", trainer="class Trainer: ...")
    program = (
        "import sys, os; sys.path.insert(0, '')\n"
        "from audiozen_core.registry.paths import resolve\nfrom audiozen_core.registry.scope import ImportScope\n"
        "with ImportScope([os.getcwd()]):\n"
        "    assert resolve('trainer.Trainer').target\n"
        "    import wave; assert wave.open\n"
        "assert 'trainer' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=recipe)
    assert done.returncode == 0, done.stderr


def test_folder_without_init_does_not_shadow_an_installed_package(write, site):
    write("site", az_wandb="place = 'installed'")
    recipe = write("a", {"az_wandb/run": "x = 1"})
    with ImportScope([recipe]):
        assert importlib.import_module("az_wandb").place == "installed"


def test_folder_without_init_can_be_imported(write):
    recipe = write("a", {"az_nets/small": "class Net: ..."})
    with ImportScope([recipe]):
        assert target("az_nets.small.Net").__name__ == "Net"
    assert not [name for name in sys.modules if name.startswith("az_nets")]


def test_module_already_imported_from_the_same_file_is_reused(write, monkeypatch):
    recipe = write("a", {"az_shared/__init__": "class Net: ...", "az_shared/part": "x = 1"})
    monkeypatch.syspath_prepend(str(recipe))
    before = importlib.import_module("az_shared")
    try:
        with ImportScope([recipe]):
            assert target("az_shared.Net") is before.Net
            part = importlib.import_module("az_shared.part")
        assert sys.modules["az_shared"] is before
        assert sys.modules["az_shared.part"] is part
    finally:
        for name in ("az_shared", "az_shared.part"):
            sys.modules.pop(name, None)


def test_modules_from_a_path_that_the_recipe_adds_belong_to_the_scope(write):
    write("shared_a", layers="name = 'a'")
    write("shared_b", layers="name = 'b'")
    text = "import sys, pathlib\nsys.path.append(str(pathlib.Path(__file__).parents[1] / '{}'))\nimport layers"
    first = ImportScope([write("a", trainer=text.format("shared_a"), late="import layers")])
    second = ImportScope([write("b", trainer=text.format("shared_b"))])
    before = state()
    with first:
        assert target("trainer.layers.name") == "a"
    with second:
        assert target("trainer.layers.name") == "b"
    with first:
        assert importlib.import_module("late").layers.name == "a"
    assert state() == before


def test_installed_module_stays_imported_after_the_scope(write, site):
    write("site", az_heavy="x = 1")
    with ImportScope([write("a", trainer="import az_heavy")]):
        importlib.import_module("trainer")
    assert "az_heavy" in sys.modules


def test_installed_path_ignores_the_scope(write):
    outside = installed_path()
    with ImportScope([write("a")]):
        assert installed_path() == outside
        assert sys.path != outside


def test_reserved_names_include_python_and_dependencies_only():
    assert {"os", "logging", "torch", "numpy", "audiozen", "audiozen_plugins", "click"} <= RESERVED
    assert not {"trainer", "model", "dataset", "loss", "utils"} & RESERVED


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_forked_worker_can_import_modules_of_the_experiment(write):
    recipe = write("a", trainer="class Trainer: ...", late="name = 'late'")
    with ImportScope([recipe]):
        target("trainer.Trainer")
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        worker = context.Process(target=_send_late_name, args=(theirs,))
        worker.start()
        assert ours.recv() == ("late", True)
        worker.join()


def _send_late_name(pipe):
    known = "trainer" in sys.modules
    pipe.send((importlib.import_module("late").name, known))
