"""Every key of the JSON that a command prints or writes is explained on the page about the command."""
# ruff: noqa: F811 - fixtures

import json
import re
from pathlib import Path

import pytest

from audiozen_core.listening.listen import listen
from audiozen_core.testing.tiny import TinyExperiment
from audiozen_plugins.hooks.samples import Samples
from tests.cli.conftest import audiozen  # noqa: F401 - a fixture
from tests.core.listening.sessions import key_of, write_folders
from tests.plugins.hooks.showing_trainer import train

DOCS = Path(__file__).resolve().parent.parent / "docs"
# The keys below these keys are names of metrics, systems, settings, …
BY_NAME = (
    *("all", "build", "means", "metrics", "missing", "modules", "packages", "parts", "recorded", "scalars", "settings"),
    *("signals", "sources", "stimuli", "systems", "thread_seconds", "values", "waves", "weights"),
)


def keys(data, *, by_name=False):
    """Returns the keys of JSON data, also of nested data, without names of metrics and the like."""
    if isinstance(data, list):
        return set().union(*map(keys, data))
    if not isinstance(data, dict):
        return set()
    below = [keys(value, by_name=key in BY_NAME and not by_name) for key, value in data.items()]
    return set().union(set() if by_name else data, *below)


def unexplained(data, *pages, by_name=False):
    text = "\n".join((DOCS / page).read_text(encoding="utf-8") for page in pages)
    found = keys(data, by_name=by_name)
    assert found
    return sorted(key for key in found if not re.search(rf"`{re.escape(key)}`", text))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Returns an experiment that was trained and tested for one epoch."""
    tiny = TinyExperiment(tmp_path_factory.mktemp("tiny"))
    tiny.set("trainer", max_epochs=1)
    tiny.run("train", "test")
    return tiny


def test_missing_explanations_are_found():
    """The negative control."""
    data = [{"steps": 3, "new_key": 1, "parts": {"a part": {"another": 2}}}]
    assert unexplained(data, "profile.md") == ["another", "new_key"]


COMMANDS = "experiment_arguments.md"
PRINTED = {
    "check {toml} --format json --set model.path=sdn": COMMANDS,
    "check {toml} --format json --build": COMMANDS,
    "plugins model --json": COMMANDS,
    "plugins show sdnn --json": COMMANDS,
    "runs {run} --format json": "runs.md",
}


@pytest.mark.parametrize("command", PRINTED)
def test_keys_of_printed_json_are_explained(audiozen, tiny, command):
    done = audiozen(*command.format(toml=tiny.file, run=tiny.folder / "exp/tiny").split())
    assert unexplained(json.loads(done.out), PRINTED[command]) == []


def test_keys_of_printed_hooks_are_explained(audiozen, tiny):
    data = json.loads(audiozen("hooks", str(tiny.file), "--json").out)
    assert unexplained(data, COMMANDS, by_name=True) == []


WRITTEN = {
    "compare {run} other={run} -o {out}": ("comparison.json", "compare.md", "metrics.md"),
    "evaluate {noisy} --clean {clean} --metrics si_sdr -o {out}": ("scores.json", "evaluate.md", "metrics.md"),
    "profile {toml} --steps 3 -o {out}": ("profile.json", "profile.md"),
    "replay {run} --epoch 1 --batch 0 -o {out}": ("replay.json", "replay.md"),
    "replay {run} --epoch 1 --batch 0 --step -o {out}": ("replay.json", "replay.md"),
}


@pytest.mark.parametrize("command", WRITTEN)
def test_keys_of_written_json_are_explained(audiozen, tiny, tmp_path, command):
    file, *pages = WRITTEN[command]
    places = {name: tiny.folder / name for name in ("clean", "noisy")}
    arguments = command.format(toml=tiny.file, run=tiny.folder / "exp/tiny", out=tmp_path / "out", **places)
    done = audiozen(*arguments.split())
    assert done.code == 0, done.err
    assert unexplained(json.loads((tmp_path / "out" / file).read_text()), *pages) == []


def test_keys_of_a_preview_are_explained(audiozen, tiny):
    assert audiozen("run", str(tiny.file), "--preview", "1").code == 0
    data = json.loads((tiny.folder / "exp/tiny_preview/preview.json").read_text())
    assert unexplained(data, "replay.md") == []


def test_keys_of_the_results_of_several_seeds_are_explained(audiozen, tiny):
    assert audiozen("run", str(tiny.file), "--seeds", "1").code == 0
    data = json.loads((tiny.folder / "exp/tiny_seeds.json").read_text())
    assert unexplained(data, COMMANDS) == []


def test_keys_of_the_files_of_a_run_are_explained(tiny):
    run = tiny.folder / "exp/tiny"
    (session,) = run.glob("session__*.json")
    assert unexplained(json.loads(session.read_text()), "runs.md") == []
    identities = json.loads((run / "test/best_epoch_0001/0/scores.metrics.json").read_text())
    assert unexplained(identities, "metrics.md", by_name=True) == []
    scores = json.loads((run / "test/best_epoch_0001/0/scores.json").read_text())
    assert unexplained(scores, "getting_started.md", "metrics.md") == []


def test_keys_of_the_samples_of_a_training_are_explained(tmp_path):
    train(tmp_path, samples=Samples(count=1), max_epochs=1)
    data = json.loads((tmp_path / "samples/samples.json").read_text())
    assert unexplained(data, "watch_a_training.md") == []


def test_keys_of_the_key_of_a_listening_test_are_explained(tmp_path):
    write_folders(tmp_path)
    systems = {name: tmp_path / name for name in ("alpha_net", "beta_net")}
    made = listen(systems, tmp_path / "test.html", clean=tmp_path / "clean", noisy=tmp_path / "noisy", files=1)
    key = key_of(made.page)
    settings = key.pop("settings")
    assert set(settings.pop("begins")) >= set(made.files)
    assert unexplained([key, settings], "listening_tests.md") == []
