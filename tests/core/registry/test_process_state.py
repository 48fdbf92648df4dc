"""What the import of an installed component changes in the process does not reach a run."""
# ruff: noqa: F811 - fixtures

import locale
import os
import random
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from audiozen_core.diagnostics import codes
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.inspection.probe import findings_about
from audiozen_core.registry import paths
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.index import installed_index
from audiozen_core.registry.paths import resolve
from audiozen_core.registry.process_state import PARTS, read_process_state, restore_process_state
from tests.installed import install, site  # noqa: F401 - fixtures
from tests.tiny_experiment import TinyExperiment

CLASS = "\nfrom torch import nn\nclass Loss(nn.MSELoss): ..."
LAZY = """
def __getattr__(name):
    if name == "late":
        import importlib
        return importlib.import_module("acme.late")
    raise AttributeError(name)
"""
OTHER_LOCALE = next(name for name in ("C", "POSIX", "C.UTF-8") if name != locale.setlocale(locale.LC_ALL))

CHANGES = {
    "the working directory": "import os; os.chdir('/')",
    "the environment": "import os; os.environ['CUDA_VISIBLE_DEVICES'] = ''",
    "the locale": f"import locale; locale.setlocale(locale.LC_ALL, {OTHER_LOCALE!r})",
    "the search path for modules": "import sys; sys.path.insert(0, '/nowhere')",
    "the finders of modules": "import sys; sys.meta_path.clear()",
    "the standard streams": "import sys; sys.stderr = None",
    "how uncaught exceptions are shown": "import sys; sys.excepthook = print",
    "the filters of warnings": "import warnings; warnings.simplefilter('ignore')",
    "signal handlers": "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "Python's random numbers": "import random; random.seed(0)",
    "NumPy's random numbers": "import numpy; numpy.random.seed(0)",
    "NumPy's floating-point errors": "import numpy; numpy.seterr(all='raise')",
    "torch's random numbers": "import torch; torch.manual_seed(0)",
    "torch's default type": "import torch; torch.set_default_dtype(torch.float64)",
    "torch's default device": "import torch; torch.set_default_device('meta')",
    "torch's number of threads": "import torch; torch.set_num_threads(3)",
    "torch's precision": "import torch; torch.set_float32_matmul_precision('medium')",
    "whether torch records gradients": "import torch; torch.set_grad_enabled(False)",
    "whether torch is deterministic": "import torch; torch.use_deterministic_algorithms(True)",
    "torch's mixed precision": "import torch; torch.set_autocast_enabled('cpu', True)",
    "whether cuDNN tries algorithms": "import torch; torch.backends.cudnn.benchmark = True",
}


@pytest.fixture(autouse=True)
def _restored():
    before = read_process_state()
    # Otherwise an earlier test may have left the very state that an import of these tests sets.
    random.seed(1234)
    np.random.seed(1234)
    torch.manual_seed(1234)
    yield
    restore_process_state(before)


def observed():
    """Reads the state in another way than the code under test."""
    return (
        Path.cwd(),
        # Torch sets variables of its compiler when a setting imports it.
        {name: value for name, value in os.environ.items() if not name.startswith("TORCHINDUCTOR")},
        locale.setlocale(locale.LC_ALL),
        [entry for entry in sys.path if entry != "/nowhere"],
        sys.path[0],
        [finder for finder in sys.meta_path if not type(finder).__module__.startswith("audiozen_core")],
        sys.stderr,
        sys.excepthook,
        [entry for entry in warnings.filters if entry[2].__module__ == "builtins"],
        signal.getsignal(signal.SIGTERM),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        np.geterr(),
        torch.get_rng_state().tolist(),
        torch.zeros(1).dtype,
        torch.zeros(1).device,
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        (torch.ones(1, 1) @ torch.ones(1, 1)).dtype,
        torch.get_autocast_dtype("cpu"),
        torch.backends.cudnn.benchmark,
    )


def test_every_part_is_under_test_and_documented():
    assert list(CHANGES) == [part.name for part in PARTS]
    page = Path(__file__).parents[3].joinpath("docs", "publish_a_component.md").read_text()
    listed = page.partition("These are restored:\n\n- ")[2].partition("\n\n")[0]
    assert set(listed.replace("\n- ", ", ").split(", ")) == set(CHANGES)


@pytest.mark.parametrize("part", CHANGES)
def test_change_by_an_import_is_undone_and_named(install, part):
    install("acme", {"acme": CHANGES[part] + CLASS}, loss_function={"acme_loss": "acme:Loss"})
    before = observed()
    assert resolve("acme_loss", section="loss_function").changed == (part,)
    assert observed() == before
    exec(CHANGES[part], {})
    assert observed() != before, "negative control"


def test_changed_and_removed_variables_are_restored_and_new_ones_of_libraries_are_kept(install, monkeypatch):
    monkeypatch.setenv("HOME_OF_DATA", "/data")
    monkeypatch.setenv("ACME_CACHE", "/cache")
    monkeypatch.delenv("KMP_INIT_AT_FORK", raising=False)
    change = "import os; os.environ.update(HOME_OF_DATA='x', KMP_INIT_AT_FORK='0'); del os.environ['ACME_CACHE']"
    install("acme", {"acme": change + CLASS}, loss_function={"acme_loss": "acme:Loss"})
    assert resolve("acme_loss", section="loss_function").changed == ("the environment",)
    assert (os.environ["HOME_OF_DATA"], os.environ["ACME_CACHE"]) == ("/data", "/cache")
    monkeypatch.setenv("KMP_INIT_AT_FORK", os.environ["KMP_INIT_AT_FORK"])  # so that it is removed after the test


def test_filter_of_a_library_for_its_own_warnings_is_kept_and_not_reported(install):
    code = "import warnings\nclass Note(Warning): ...\nwarnings.simplefilter('ignore', Note)\n"
    code += "warnings.filterwarnings('ignore', message='acme')"
    install("acme", {"acme": code + CLASS}, loss_function={"acme_loss": "acme:Loss"})
    assert resolve("acme_loss", section="loss_function").changed == ()
    assert {entry[2].__name__ for entry in warnings.filters} >= {"Note"}


def test_import_that_fails_is_undone_too(install):
    install("acme", {"acme": "import os; os.chdir('/'); 1 / 0"}, loss_function={"acme_loss": "acme:Loss"})
    before = Path.cwd()
    with pytest.raises(PathError):
        resolve("acme_loss", section="loss_function")
    assert Path.cwd() == before


@pytest.mark.parametrize("start", ["", "from . import late\n", "def late(): ...\n", LAZY])
def test_submodule_that_is_imported_later_is_undone_too(install, site, start):
    (site / "acme").mkdir()
    change = CHANGES["torch's default type"]
    early = CLASS if "import late" not in start else ""
    install("acme", {"acme/__init__": start + early, "acme/late": change + CLASS}, loss_function={"early": "acme:Loss"})
    if early:
        assert resolve("early", section="loss_function").changed == ()
    assert resolve("acme.late.Loss").changed == ("torch's default type",)
    assert torch.zeros(1).dtype == torch.float32


def test_looking_up_what_is_imported_reads_no_state(install, site, monkeypatch):
    (site / "acme").mkdir()
    install("acme", {"acme/__init__": "", "acme/late": CLASS}, loss_function={"late": "acme.late:Loss"})
    resolve("late")
    monkeypatch.setattr(paths, "read_process_state", lambda: pytest.fail("it has read the state"))
    assert resolve("late").target is resolve("acme.late.Loss").target


def test_module_beside_the_toml_may_change_what_it_likes(tmp_path):
    change = "import torch; torch.set_float32_matmul_precision('medium')"
    tiny = TinyExperiment(tmp_path, parts=change)
    Experiment.load(tiny.write())
    assert torch.get_float32_matmul_precision() == "medium"


def test_run_warns_at_the_line_and_trains_as_without_the_changes(install, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change = "import os, torch; os.chdir('/'); torch.set_default_dtype(torch.float64)"
    install("acme", {"acme": change + CLASS}, loss_function={"acme_loss": "acme:Loss"})
    tiny = TinyExperiment(tmp_path)
    used = ('path = "torch.nn.MSELoss"', 'path = "acme_loss"')
    experiment = Experiment.load(tiny.write(used, name="acme"))
    (warning,) = experiment.warnings
    assert warning.code == codes.IMPORT_CHANGES
    assert warning.message == "importing `acme_loss` changes the working directory, torch's default type"
    assert warning.source == 'path = "acme_loss"'
    experiment.run()
    expected = tiny.run()["model"]
    for name, weight in tiny.state("acme")["model"].items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, expected[name])


def test_doctor_names_the_change(install):
    install("acme", {"acme": CHANGES["torch's default type"] + CLASS}, loss_function={"acme_loss": "acme:Loss"})
    (finding,) = findings_about(installed_index().find("acme_loss"))
    assert finding.code == codes.IMPORT_CHANGES
    assert finding.severity == "warning"
    assert finding.message == (
        "the loss function `acme_loss` of acme 1.0: its import changes torch's default type, which AudioZEN undoes"
    )


def test_state_is_restored_without_importing_torch_and_known_defaults_if_the_import_imports_it(site):
    (site / "acme.py").write_text("import torch; torch.set_default_dtype(torch.float64)\nclass A: ...")
    (site / "light.py").write_text("class A: ...")
    program = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from audiozen_core.registry.paths import resolve\n"
        "assert resolve('light.A').changed == ()\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "print(resolve('acme.A').changed)\n"
        "import torch; print(torch.zeros(1).dtype)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == '("torch\'s default type",)\ntorch.float32\n'


def test_random_number_that_the_import_of_rich_draws_is_undone_silently(install, monkeypatch):
    """Many plugins import rich. Their authors can't help that its import draws a number."""
    monkeypatch.delitem(sys.modules, "rich.style", raising=False)
    install("acme", {"acme": f"import rich.style, random\nrandom.random(){CLASS}"}, loss_function={"one": "acme:Loss"})
    install(
        "other", {"other": f"import rich.style, random\nrandom.random(){CLASS}"}, loss_function={"two": "other:Loss"}
    )
    before = random.getstate()
    assert resolve("one").changed == ()
    assert random.getstate() == before
    assert resolve("two").changed == ("Python's random numbers",)
    assert random.getstate() == before
