"""Whole sessions in a real browser: what a listener says arrives at the right system."""

import json

import pytest

from audiozen_core.errors import DataError
from audiozen_core.listening.compare_ratings import compare_ratings
from audiozen_core.listening.listen import listen
from tests.browser import chromium
from tests.core.listening.sessions import Listener, key_of, write_folders

pytestmark = pytest.mark.xdist_group("browser")

MUSHRA = {name: {"mushra": value} for name, value in
          {"alpha_net": 41, "beta_net": 67, "noisy": 20, "lowpass3500": 55, "reference": 100}.items()}  # fmt: skip
P835 = {
    name: dict(zip(("signal", "background", "overall"), values, strict=True))
    for name, values in {
        "alpha_net": (3, 4, 2), "beta_net": (4, 3, 5), "noisy": (5, 1, 3), "reference": (5, 5, 4)
    }.items()
}  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("listening")
    write_folders(root, seconds=0.2)
    return root


def made(folder, name, method, files):
    systems = [folder / "alpha_net", folder / "beta_net"]
    page = folder / f"{name}.html"
    return listen(systems, page, method=method, clean=folder / "clean", noisy=folder / "noisy", files=files)


def means(comparison, metric):
    return {system.name: comparison.mean(metric, system.name).mean for system in comparison.systems}


def test_mushra_session_survives_a_reload_and_its_ratings_arrive_at_the_right_system(browser, folder):
    made(folder, "mushra", "mushra", 2)
    context = browser.new_context()
    listener = Listener(context.new_page(), folder / "mushra.html", MUSHRA)
    listener.begin()
    training, first, second = listener.plan()
    assert listener.where() == "Training"
    listener.rate_side_by_side(training)
    assert listener.where() == "Trial 1 of 2"
    listener.rate_side_by_side(first)
    partial = listener.download("Save what I have so far")
    listener.page.get_by_label("Rating of stimulus B").fill("7")
    listener.page.reload()
    assert listener.where() == "Trial 2 of 2"
    assert listener.page.get_by_label("Rating of stimulus B").input_value() == "7"
    assert "rate A, C, D and E" in listener.page.locator(".missing").inner_text()
    found = compare_ratings([partial])
    assert any("has not finished the test: 1 of 2 files count" in note for note in found.notes)
    listener.rate_side_by_side(second)
    file = listener.download()
    assert file.name.endswith("_Ann_O_Hara.json")
    assert listener.errors == []
    context.close()
    content = json.loads(file.read_text())
    assert (content["complete"], content["device"], content["listener"]) == (True, "headphones", "Ann O'Hara")
    assert [trial["order"] for trial in content["trials"]] == [first["stimuli"], second["stimuli"]]
    found = compare_ratings([file])
    assert means(found, "mushra") == {name: of["mushra"] for name, of in MUSHRA.items()}
    # Negative control: with a key in which two systems have changed places, so have their means.
    key = key_of(folder / "mushra.html")
    swap = {"alpha_net": "beta_net", "beta_net": "alpha_net"}
    for stimulus in key["stimuli"].values():
        stimulus["system"] = swap.get(stimulus["system"], stimulus["system"])
    swapped = folder / "swapped.json"
    swapped.write_text(json.dumps(key))
    assert means(compare_ratings([file], key=swapped), "mushra")["alpha_net"] == MUSHRA["beta_net"]["mushra"]
    content["trials"][0]["ratings"][first["stimuli"][0]]["mushra"] += 1
    file.with_name("changed.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="checksum"):
        compare_ratings([file.with_name("changed.json")])


def test_p835_session_with_the_keyboard(browser, folder):
    made(folder, "p835", "p835", 1)
    context = browser.new_context()
    listener = Listener(context.new_page(), folder / "p835.html", P835, name="Bea")
    listener.begin()
    plan = listener.plan()
    orders = [trial["scales"] for trial in plan[-4:]]
    assert orders[0] == orders[1] != orders[2] == orders[3]
    assert all(order[2] == "overall" for order in orders)
    for trial in plan:
        listener.rate_one(trial)
    file = listener.download()
    assert listener.errors == []
    context.close()
    found = compare_ratings([file])
    for scale in ("signal", "background", "overall"):
        assert means(found, scale) == {name: of[scale] for name, of in P835.items()}


def test_part_loops_all_recordings_switch_at_the_same_moment_and_a_saved_file_goes_on(browser, folder):
    made(folder, "again", "mushra", 1)
    context = browser.new_context()
    listener = Listener(context.new_page(), folder / "again.html", MUSHRA)
    listener.begin()
    training, _ = listener.plan()
    listener.rate_side_by_side(training)
    page = listener.page
    saved = listener.download("Save what I have so far")
    found = page.evaluate(
        """async () => {
          const test = JSON.parse(document.getElementById("test").textContent);
          const trial = { ...test.trials[1], seconds: 0.2 };
          const { root, player } = Mushra(test, trial, null, () => {});
          document.body.append(root);
          const names = new Set();
          const start = AudioBufferSourceNode.prototype.start;
          AudioBufferSourceNode.prototype.start = function (...when) {
            names.add([when, this.loop, this.loopStart, this.loopEnd].join());
            start.apply(this, when);
          };
          player.region = [0.05, 0.15];
          await player.play();
          const places = [];
          for (let count = 0; count < 12; count += 1) {
            await new Promise((next) => setTimeout(next, 25));
            player.choose(count % 3);
            places.push(player.now());
          }
          player.stop();
          return [[...names], player.sources, places];
        }"""
    )
    starts, sources, places = found
    assert len(starts) == 1  # all recordings start at one moment, in one loop, and a switch starts none again
    assert starts[0].endswith(",0.05,true,0.05,0.15")
    assert sources is None
    assert all(0.05 <= place <= 0.15 for place in places)
    page.evaluate("localStorage.clear()")
    page.reload()
    page.set_input_files("#restore-file", folder / "again.key.json")
    page.wait_for_function("document.getElementById('who-error').textContent.includes('not a ratings file')")
    page.set_input_files("#restore-file", saved)
    page.wait_for_selector("#trial .go")
    assert listener.where() == "Trial 1 of 1"
    assert listener.errors == []
    context.close()
