"""All kinds are defined in one table, and adding a row is enough to add a kind."""

import subprocess
import sys
from pathlib import Path

import pytest

import audiozen_core
from audiozen_core.kinds import (
    GROUPS,
    KINDS,
    RUN_MODES,
    SECTIONS,
    kind_of,
    needed_sections,
    section_name,
    split_section,
)
from audiozen_core.testing.tiny import TinyExperiment
from tests.cli.conftest import audiozen  # noqa: F401 - a fixture
from tests.copied_tree import copied_tree, environment

CORE = Path(audiozen_core.__file__).parent
MOST_NAMED = 5

ROW = '    Kind(name="augmentation", prose="augmentation", suffixed=True, injected=("sr", "n_fft")),\n'


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        ("loss_function_g", "loss_function"),
        ("lr_scheduler_d", "lr_scheduler"),
        ("optimizer", "optimizer"),
        ("model_g", "model"),
        ("dataset", "dataset"),
        ("train_dataset", "dataset"),
        ("validate_dataset", "dataset"),
        ("hooks", "hooks"),
        ("meta", "meta"),
    ],
)
def test_kind_of_a_section_follows_from_its_name(section, kind):
    assert kind_of(section) is KINDS[kind]


@pytest.mark.parametrize("name", ["models", "meta_g", "model_", "dataset_g", "", "hooks_2"])
def test_other_names_are_not_sections(name):
    assert split_section(name) is None
    assert kind_of(name) is None


def test_split_section_reverses_section_name():
    for name in SECTIONS:
        assert split_section(section_name(name, "")) == (name, "")
    assert split_section(section_name("model", "g_2")) == ("model", "g_2")


@pytest.mark.parametrize("mode", RUN_MODES)
def test_every_mode_needs_a_trainer_a_model_and_its_data_set(mode):
    needed = needed_sections([mode])
    data = {"train": "dataset", "finetune": "dataset"}.get(mode, f"{mode}_dataset")
    assert {"meta", "trainer", "model", data} <= needed.keys()
    assert ("optimizer" in needed) == (mode in ("train", "finetune"))


def test_partner_of_a_kind_exists_and_has_the_same_kind_of_suffix():
    for kind in KINDS.values():
        assert not kind.partner or KINDS[kind.partner].suffixed == kind.suffixed


def test_core_lists_the_kinds_in_one_file_only():
    """A list of kinds names most of them within a few lines. Code for one kind names only one or two."""
    names = [f'"{name}"' for name in GROUPS]
    for file in CORE.rglob("*.py"):
        lines = file.read_text(encoding="utf-8").splitlines()
        windows = ("\n".join(lines[start : start + 12]) for start in range(len(lines)))
        assert (
            file == CORE / "kinds.py"
            or max((sum(name in text for name in names) for text in windows), default=0) <= MOST_NAMED
        ), file


# A component of the new kind, and a trainer that prints the components of that kind that it receives.
PARTS = """
from audiozen_plugins.trainer.enhancement import EnhancementTrainer

class Gain:
    def __init__(self, sr: int, n_fft: int, *, db: float):
        self.settings, self.db = (sr, n_fft), db

class Trainer(EnhancementTrainer):
    def __init__(self, components, **kwargs):
        super().__init__(components, **kwargs)
        for suffix, gain in components.others["augmentation"].items():
            print("got", repr(suffix), type(gain).__name__, gain.db, *gain.settings)
"""


END = "---- end ----"

# One process runs all commands, because importing torch takes longer than all of them together.
SHELL = f"""
import contextlib, sys
from audiozen_core.cli.main import main

for line in sys.argv[1:]:
    sys.argv = ["audiozen", *line.split()]
    with contextlib.redirect_stderr(sys.stdout):
        try:
            main()
        except SystemExit as stop:
            print("exit code", stop.code)
    print("{END}", flush=True)
"""


@pytest.fixture
def tiny(tmp_path):
    """Returns a tiny experiment with two components of the new kind."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    tiny = TinyExperiment(folder)
    (folder / "own_parts.py").write_text(PARTS, encoding="utf-8")
    tiny.set("trainer", path="own_parts.Trainer", max_epochs=1)
    tiny.values["augmentation"] = {"path": "own_parts.Gain", "args": {"db": 3.0}}
    tiny.values["augmentation_late"] = {"path": "own_parts.Gain", "args": {"db": 6.0}}
    return tiny


@pytest.fixture
def with_new_row(tmp_path, tiny):
    """Returns a function that runs the command line with one more row in the table."""
    root = copied_tree(tmp_path / "tree")
    table = root / "audiozen_core" / "kinds.py"
    text = table.read_text(encoding="utf-8")
    changed = text.replace('    Kind(name="metric"', f'{ROW}    Kind(name="metric"')
    assert changed.count(ROW) == 1
    table.write_text(changed, encoding="utf-8")

    def call(*commands):
        """Runs several command lines in one process, and returns what each has printed, on stdout and stderr."""
        done = subprocess.run(
            [sys.executable, "-c", SHELL, *commands],
            cwd=tiny.folder,
            env=environment(root),
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        return done.stdout.split(END)[:-1]

    return call


def test_new_row_is_enough_to_check_build_and_pass_a_new_kind(tiny, with_new_row):
    good = tiny.write()
    tiny.values["augmentation_late"]["args"] = {"dbs": 6.0, "sr": 8000}
    bad = good.with_name("bad.toml")
    bad.write_text(tiny.write().read_text(encoding="utf-8"), encoding="utf-8")
    tiny.values["augmentation_late"]["args"] = {"db": 6.0}
    tiny.write()
    run, check, schema, check_name = with_new_row(
        f"run {good}", f"check {bad}", "schema", f"check {good} --set augmentation.path=gian"
    )
    # The defaults of [acoustics] are 16000 and 512.
    assert "got '' Gain 3.0 16000 128\ngot 'late' Gain 6.0 16000 128" in run
    assert run.endswith("exit code 0\n")
    assert "unknown argument `dbs` for own_parts.Gain" in check
    assert "did you mean `db`?" in check
    assert "argument `sr` of own_parts.Gain is set by AudioZEN" in check
    assert check.endswith("exit code 2\n")
    assert "augmentation" in schema
    assert "no augmentation named `gian` is installed" in check_name


def test_section_is_unknown_without_the_new_row(tiny, audiozen):  # noqa: F811
    """The negative control."""
    outcome = audiozen("check", str(tiny.write()))
    assert "unknown section `augmentation`" in outcome.err
    assert outcome.code == 2
