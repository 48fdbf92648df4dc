"""The steps in the pages for authors of hooks and plugins are carried out."""

import json
import sys
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

import pytest
import torch

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.audio.files import read_audio
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.checkpoint.weights import load_weights
from audiozen_core.cli.main import main
from audiozen_core.errors import Interrupted
from audiozen_core.experiment.experiment import Experiment
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
    from codec_report import report
    from louder import Louder
    from residual import Residual
    from scored import Scored

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
    summary = report([("a", 6, wave, 10 * wave + torch.cos(torch.arange(1000.0))), ("b", 6, 0 * wave, wave)]).summary()
    assert summary == pytest.approx(
        {"si_sdr": 20.0, "si_sdr_missing": 1, "level_distance": 20.0, "level_distance_missing": 1}, abs=0.1
    )

    [scores] = here.glob("exp/scored/test/*/0/scores.csv")
    assert (
        scores.read_text()
        .splitlines()[0]
        .startswith("id,si_sdr_noisy,si_sdr_denoised,si_sdr_gain,level_distance_noisy,")
    )
    assert [finding.message for finding in Scored.check_settings(
        {"metrics": ["si_sdr", "stoi", "si_sdr"]}, acoustics=Acoustics(sr=16000), dataset_names={}
    )] == ["the metric `si_sdr` is listed twice"]  # fmt: skip


RECORDER = """
import signal
from audiozen import hookimpl


def copied(trainer):
    return {name: weight.detach().double() for name, weight in trainer.model.named_parameters()}


class Recorder:
    affects_training = False
    epoch_to_stop = None
    trained, evaluated = [], []

    @hookimpl
    def on_run_start(self, trainer):
        self.trained.append(copied(trainer))

    @hookimpl
    def on_optimizer_step_end(self, trainer):
        self.trained.append(copied(trainer))

    @hookimpl
    def on_evaluation_step_end(self, trainer):
        self.evaluated.append(copied(trainer))
        if trainer.progress.epoch == self.epoch_to_stop:
            signal.raise_signal(signal.SIGTERM)
"""
MORE_HOOKS = """
[[hooks]]
path = "recorder.Recorder"
[[hooks]]
path = "tensorboard"
enabled = false
"""


def run_averaged(name, *modes, stop_at=None, **options):
    """Runs the example of an average. Returns a hook that has recorded the weights of the network."""
    experiment = Experiment.load(f"{name}.toml", modes=modes, overrides=["trainer.args.max_epochs=3"])
    with experiment.scope:
        recorder = import_module("recorder").Recorder
    recorder.epoch_to_stop = stop_at
    with pytest.raises(Interrupted) if stop_at else nullcontext():
        experiment.run(**options)
    return recorder


def average_by_hand(trained, decay=0.9):
    """Averages the weights of each step, the initial ones first, in double precision."""
    total = trained[0]
    for weights in trained[1:]:
        total = {name: decay * total[name] + (1 - decay) * weights[name] for name in total}
    return total


def scores_of(run):
    (file,) = Path("exp", run, "test").glob("*/0/scores.json")
    return json.loads(file.read_text())["all"]


@pytest.fixture
def averaged(here):
    """A folder with the example of an average, beside a hook that records the weights."""
    TinyExperiment(here).set("optimizer", lr=0.02).write()
    for block in blocks(HOOKS):
        kind, _, name = (block["what"] or "").partition(": ")
        if kind == "file":
            Path(name).write_text(block["text"], encoding="utf-8")
    Path("recorder.py").write_text(RECORDER)
    text = Path("averaged.toml").read_text()
    for name in ("averaged", "interrupted"):
        Path(f"{name}.toml").write_text(text + MORE_HOOKS)


@pytest.mark.usefixtures("averaged")
def test_average_from_the_page_is_in_every_checkpoint_and_is_what_a_validation_uses():
    recorder = run_averaged("averaged", "train")
    store = CheckpointStore(Path("exp/averaged/checkpoints"))
    assert len(recorder.trained) == 7  # before the training, and after each of its 6 steps
    for epoch in (1, 2, 3):
        state = store.load(Path(f"epoch_{epoch:04d}")).state
        by_hand = average_by_hand(recorder.trained[: 2 * epoch + 1])
        for name, weight in recorder.trained[2 * epoch].items():
            assert torch.equal(state["model"][name].double(), weight)
            torch.testing.assert_close(state["ema"][name].double(), by_hand[name], rtol=1e-5, atol=1e-7)
            for evaluated in recorder.evaluated[4 * (epoch - 1) : 4 * epoch]:  # each of the 4 files
                assert torch.equal(evaluated[name], state["ema"][name].double())
        assert any((by_hand[name] - weight).abs().max() > 1e-3 for name, weight in recorder.trained[2 * epoch].items())


@pytest.mark.usefixtures("averaged")
def test_new_test_scores_the_average_from_the_page_and_so_does_a_network_without_the_hook():
    run_averaged("averaged", "train")
    recorder = run_averaged("averaged", "test")
    best = CheckpointStore(Path("exp/averaged/checkpoints")).load("best").path
    saved = load_weights(best, owner="ema")
    assert len(recorder.evaluated) == 4
    for evaluated in recorder.evaluated:
        assert all(torch.equal(weight, saved[name].double()) for name, weight in evaluated.items())
    scores = {"averaged": scores_of("averaged")}
    for name in ("ema", "model"):
        Path(f"{name}.toml").write_text(Path("tiny.toml").read_text())
        Experiment.load(f"{name}.toml", modes=["test"]).run(ckpt_path=str(best / f"{name}.safetensors"))
        scores[name] = scores_of(name)
    assert scores["averaged"] == scores["ema"] != scores["model"]


@pytest.mark.usefixtures("averaged")
def test_average_from_the_page_survives_an_interrupted_validation_bit_for_bit():
    run_averaged("averaged", "train")
    stopped = run_averaged("interrupted", "train", stop_at=2)
    store = CheckpointStore(Path("exp/interrupted/checkpoints"))
    assert len(stopped.evaluated) == 5  # the second validation has ended after its first file
    for name, weight in stopped.trained[-1].items():
        assert torch.equal(store.load().state["model"][name].double(), weight)
    assert any(not torch.equal(stopped.evaluated[-1][name], weight) for name, weight in stopped.trained[-1].items())
    run_averaged("interrupted", "train", resume=True)
    states = [CheckpointStore(Path("exp", name, "checkpoints")).load().state for name in ("averaged", "interrupted")]
    for owner in ("model", "ema"):
        assert all(torch.equal(value, states[1][owner][name]) for name, value in states[0][owner].items())


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
