"""The steps in the pages for authors of hooks and plugins are carried out."""

import sys
from pathlib import Path

import pytest
import torch

from audiozen_core.audio.files import read_audio
from audiozen_core.cli.main import main
from audiozen_core.kinds import GROUPS
from audiozen_core.testing.tiny import TinyExperiment
from audiozen_core.trainer.components import Components
from audiozen_plugins.dataset.noisy_clean_folders import NoisyCleanFolders
from tests.test_docs import REPOSITORY, audiozen_lines, blocks

HOOKS = REPOSITORY / "docs" / "write_a_hook.md"
CLASSES = REPOSITORY / "docs" / "build_on_our_classes.md"
PUBLISH = REPOSITORY / "docs" / "publish_a_component.md"


def follow(page, monkeypatch):
    """Saves the files that a page shows, and runs its commands."""
    for block in blocks(page):
        kind, _, name = (block["what"] or "").partition(": ")
        if kind == "file":
            Path(name).write_text(block["text"], encoding="utf-8")
        elif kind == "run":
            for arguments in audiozen_lines(block["text"]):
                monkeypatch.setattr(sys, "argv", ["audiozen", *arguments])
                with pytest.raises(SystemExit) as stop:
                    main()
                assert not stop.value.code, arguments


def examples_of(page):
    """Returns the test functions that a page shows."""
    names = {}
    for block in blocks(page):
        if block["language"] == "python" and "def test_" in block["text"]:
            exec(block["text"], names)
    return {name: value for name, value in names.items() if name.startswith("test_")}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Yields a working directory. Then removes the modules that were imported from it."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_hook_from_the_page_runs_and_passes_its_tests(here, monkeypatch, tmp_path_factory, capsys):
    TinyExperiment(here).write()
    follow(HOOKS, monkeypatch)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["hooks.Warmup", "gradient", "hooks", "hooked.toml:3"] in rows
    monkeypatch.syspath_prepend(str(here))
    tests = examples_of(HOOKS)
    tests["test_warmup_implements_two_hooks"]()
    tests["test_warmup_runs_at_each_step"](TinyExperiment(tmp_path_factory.mktemp("tiny")))


def test_hooks_from_the_page_stop_within_an_epoch_and_add_scalars(here, monkeypatch):
    TinyExperiment(here).write()
    follow(HOOKS, monkeypatch)
    stopped = TinyExperiment(here).add_hook("time_limit.TimeLimit", hours=0.0).run("train")
    assert stopped.checkpoints == ["epoch_0001_step_0000001"]
    resumed = TinyExperiment(here).add_hook("level.Level").run("train", resume=True)
    assert resumed.hooks.names.count("on_optimizer_step_end") == 3
    levels = resumed.metrics("validate/level")
    waves = [read_audio(file, sr=16000) for file in sorted((here / "clean").iterdir())]
    clean = float(10 * torch.stack([wave.square().mean() for wave in waves]).mean().log10())
    assert levels == pytest.approx([clean, clean], abs=3.0)  # an untrained network changes the level a little


def test_classes_on_top_of_ours_train_test_and_report(here, monkeypatch):
    TinyExperiment(here).write()
    follow(CLASSES, monkeypatch)
    (scores,) = here.glob("exp/residual/test/*/0/scores.csv")
    assert len(scores.read_text().splitlines()) == 5

    monkeypatch.syspath_prepend(str(here))
    from level import report
    from louder import Louder
    from residual import Residual

    pairs = Louder(here / "noisy", here / "clean", max_db=6.0)
    plain = NoisyCleanFolders(here / "noisy", here / "clean")
    gains = [pairs[0]["clean"].norm() / plain[0]["clean"].norm() for _ in range(20)]
    assert 10 ** (-6 / 20) <= min(gains) < 0.9 < 1.1 < max(gains) <= 10 ** (6 / 20)

    components = Components({"": torch.nn.Identity()}, loss_functions={"": torch.nn.L1Loss()})
    trainer = Residual(components, keep=1.0, weight=2.0, domain="waveform")
    noisy, clean = torch.ones(1, 8), torch.zeros(1, 8)
    assert torch.equal(trainer.enhance(noisy)[0], noisy)
    assert float(trainer.compare(noisy, None, clean)) == 3.0

    wave = torch.sin(torch.arange(1000.0))
    summary = report([("a", 10 * wave, wave / 10, wave)]).summary()
    assert summary == pytest.approx({"level_distance": 20.0, "level_distance_noisy": 20.0, "level_distance_gain": 0.0})


def test_plugin_from_the_page_passes_its_tests(here, monkeypatch):
    follow(PUBLISH, monkeypatch)
    monkeypatch.syspath_prepend(str(here / "audiozen-plugin-acme" / "src"))
    tests = examples_of(PUBLISH)
    assert set(tests) == {"test_model", "test_loss"}
    for test in tests.values():
        test()


def test_page_lists_every_entry_point_group_and_every_check():
    import audiozen.testing

    text = PUBLISH.read_text(encoding="utf-8")
    for kind in GROUPS:
        assert f"`audiozen.{kind}`" in text, kind
    for name in audiozen.testing.__all__:
        if name.startswith("check_"):
            assert f"| `{name}(" in text, name
