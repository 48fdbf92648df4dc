"""Ratings of several listeners: who counts, which means and tests follow, and which files are refused."""

import csv
import json

import numpy as np
import pytest

from audiozen_core.errors import DataError, RunError
from audiozen_core.listening.compare_ratings import compare_ratings
from audiozen_core.listening.listen import listen
from tests.core.listening.sessions import key_of, write_folders, write_ratings

MEANS = {"alpha_net": 45, "beta_net": 60, "noisy": 20, "lowpass3500": 50, "reference": 98}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Makes a page of each method, of eight files."""
    root = tmp_path_factory.mktemp("pages")
    write_folders(root, count=9, seconds=0.1)
    systems = [root / "alpha_net", root / "beta_net"]
    for method in ("mushra", "p835"):
        page = root / f"{method}.html"
        listen(systems, page, method=method, clean=root / "clean", noisy=root / "noisy", files=8)
    return root


@pytest.fixture
def here(pages, tmp_path):
    """A folder with the key of the MUSHRA page."""
    (tmp_path / "mushra.key.json").write_bytes((pages / "mushra.key.json").read_bytes())
    return tmp_path


@pytest.fixture
def key(pages):
    return key_of(pages / "mushra.html")


def rater(seed, **means):
    """Returns ratings around the means: of a listener who likes some files and some systems more than others."""
    generator = np.random.default_rng(seed)
    means = {**MEANS, **means}

    def rate(system, file, scale):
        if system == "reference":
            return means[system]
        return int(np.clip(generator.normal(means[system], 4), 0, 100))

    return rate


def many(here, key, count=8, **means):
    return [write_ratings(here, key, f"L{number}", rater(number, **means)) for number in range(count)]


def test_means_are_those_of_the_ratings_and_listeners_and_files_are_tested(here, key):
    found = compare_ratings(many(here, key))
    assert [system.name for system in found.systems] == list(MEANS)
    rows = {}
    for one in found.rows:
        rows.setdefault(one[2], []).append(one[4])
    assert {len(of) for of in rows.values()} == {8 * 8}
    for name, of in rows.items():
        mean = found.mean("mushra", name)
        assert mean.mean == pytest.approx(np.mean(of))
        assert mean.low <= mean.mean <= mean.high
    better = found.difference("mushra", "beta_net")
    assert better.mean == pytest.approx(np.mean(rows["beta_net"]) - np.mean(rows["alpha_net"]))
    assert better.verdict == "better"
    # All 8 files and all 8 listeners agree; two tests are corrected for, because the controls have none.
    assert better.p == pytest.approx(2 / 2**8)
    assert better.p_holm == pytest.approx(2 * 2 / 2**8)
    assert np.isnan(found.difference("mushra", "reference").p)
    assert np.isnan(found.difference("mushra", "lowpass3500").p)
    assert found.difference("mushra", "noisy").verdict == "worse"


def test_one_listener_who_disagrees_with_all_others_widens_the_interval_and_ends_the_significance(here, key):
    agreed = compare_ratings(many(here, key)).difference("mushra", "beta_net")
    paths = many(here, key, count=7)
    paths.append(write_ratings(here, key, "L7", rater(7, beta_net=5)))
    found = compare_ratings(paths).difference("mushra", "beta_net")
    assert found.better == 8  # every file is better on average, so a test over the files alone would be significant
    assert found.high - found.low > 2 * (agreed.high - agreed.low)
    assert found.p > 0.05
    assert found.verdict == ""


def test_one_listener_is_compared_over_the_files_and_reported(here, key):
    found = compare_ratings(many(here, key, count=1))
    assert any(note.startswith("only one listener:") for note in found.notes)
    assert not found.difference("mushra", "beta_net").over_seeds
    assert "files and 1 listener;" in found.table()


def test_listener_who_misses_the_reference_is_excluded_and_reported(here, key):
    paths = many(here, key, count=3)
    bad = write_ratings(here, key, "deaf", rater(9, reference=89, beta_net=0))
    good = compare_ratings(paths)
    found = compare_ratings([*paths, bad])
    assert found.listeners == good.listeners == ("L0", "L1", "L2")
    assert found.mean("mushra", "beta_net").mean == good.mean("mushra", "beta_net").mean
    assert any("deaf rates the hidden reference below 90 in 8 of 8 trials: excluded" in note for note in found.notes)
    kept = compare_ratings([*paths, bad], keep_all=True)
    assert len(kept.listeners) == 4
    assert kept.mean("mushra", "beta_net").mean < good.mean("mushra", "beta_net").mean - 5
    assert any("kept, because of --keep-all" in note for note in kept.notes)
    with pytest.raises(DataError, match="no listener is left"):
        compare_ratings([bad])


@pytest.mark.parametrize(("misses", "excluded"), [(1, False), (2, True)])
def test_limit_of_the_screening_is_15_percent(here, key, misses, excluded):
    missed = sorted({of["file"] for of in key["stimuli"].values()})[:misses]  # of eight
    rate = rater(1)

    def missing(system, file, scale):
        return 80 if system == "reference" and file in missed else rate(system, file, scale)

    path = write_ratings(here, key, "x", missing)
    found = compare_ratings([*many(here, key, count=1), path])
    assert ("x" not in found.listeners) is excluded


def test_incomplete_ratings_count_as_far_as_they_go_and_are_reported(here, key):
    files = sorted({of["file"] for of in key["stimuli"].values()})

    def partly(system, file, scale):
        if file == files[0]:
            return MEANS[system]
        return 0 if file == files[1] and system == "alpha_net" else None

    paths = many(here, key, count=2)
    whole = compare_ratings(paths)
    found = compare_ratings([*paths, write_ratings(here, key, "tired", partly, complete=False)])
    assert any("tired has not finished the test: 1 of 8 files count, with 6 of 40" in note for note in found.notes)
    assert found.files_of("mushra") == files
    (before,) = [row for row in whole.files("mushra", "beta_net") if row.id == files[1]]
    (after,) = [row for row in found.files("mushra", "beta_net") if row.id == files[1]]
    assert after == before  # the rating 0 without its partners does not count
    nothing = write_ratings(here, key, "gone", lambda *_: None, complete=False)
    with pytest.raises(DataError, match="no listener has rated all systems"):
        compare_ratings([nothing])


def test_p835_has_three_metrics(pages, tmp_path):
    key = key_of(pages / "p835.html")
    scores = {"alpha_net": 2, "beta_net": 4, "noisy": 1, "reference": 5}
    shift = {"signal": 0, "background": -1, "overall": 0}
    paths = [
        write_ratings(tmp_path, key, name, lambda system, file, scale: max(1, scores[system] + shift[scale]))
        for name in ("a", "b")
    ]
    found = compare_ratings(paths, key=pages / "p835.key.json")
    assert [metric.name for metric in found.metrics] == ["signal", "background", "overall"]
    assert found.mean("background", "beta_net").mean == 3
    assert found.mean("overall", "beta_net").mean == 4
    assert compare_ratings(paths, key=pages / "p835.key.json", metrics=["overall"]).metrics[0].label == "overall"


def test_tables_and_files(here, key, tmp_path):
    found = compare_ratings(many(here, key), baseline="noisy")
    text = found.table()
    assert "8 files and 8 listeners; difference: system minus noisy" in text
    assert "over files and listeners" in text
    assert "the larger p of two paired permutation tests, over the files and over the listeners" in text
    assert "corrected by Holm's method for 2 tests" in text
    assert "seeds" not in text
    latex = found.table("latex", intervals=True)
    assert "Means over 8 files and 8 listeners" in latex
    (row,) = [line for line in latex.splitlines() if line.startswith("reference")]
    assert "textbf" not in row  # a control is not the best system
    assert "seeds" not in latex
    assert "**" in found.table("markdown")
    written = found.write(tmp_path / "out")
    assert [path.name for path in written][-1] == "ratings.csv"
    rows = list(csv.DictReader((tmp_path / "out/ratings.csv").open()))
    assert len(rows) == 8 * 8 * 5
    content = json.loads((tmp_path / "out/comparison.json").read_text())
    assert content["listeners"] == [f"L{number}" for number in range(8)]
    assert content["method"]["tests"] == 2


def test_groups_of_files(here, key, tmp_path):
    (tmp_path / "c.csv").write_text("id,kind\n" + "".join(f"f{n},{'odd' if n % 2 else 'even'}\n" for n in range(9)))
    found = compare_ratings(many(here, key), by=["kind"], conditions=tmp_path / "c.csv")
    assert set(found.by["kind"]) == {"odd", "even"}


def edited(change):
    def apply(path):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


def first(content):
    return next(iter(content["trials"][0]["ratings"].values()))


BROKEN = {
    "cut off": (lambda path: path.write_text(path.read_text()[:99]), "is incomplete or not JSON"),
    "of a list": (lambda path: path.write_text("[]"), "is not a ratings file"),
    "of another kind": (edited(lambda content: content.update(kind="x")), "is not a ratings file"),
    "of a later format": (edited(lambda content: content.update(format=9)), "has the format 9"),
    "without a part": (edited(lambda content: content.pop("trials")), "is incomplete or was changed"),
    "with another rating": (edited(lambda content: first(content).update(mushra=3)), "checksum"),
    "with a text": (edited(lambda content: first(content).update(mushra="80")), "not an integer"),
    "with a truth value": (edited(lambda content: first(content).update(mushra=True)), "not an integer"),
    "with a listener that is a number": (edited(lambda content: content.update(listener=3)), "not text"),
    "with a trial twice": (edited(lambda content: content["trials"].append(content["trials"][0])), "twice"),
    "of another page": (edited(lambda content: content.update(page="0123456789ab")), "has ratings of the page"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_ratings_are_errors(here, key, case):
    change, message = BROKEN[case]
    path = write_ratings(here, key, "x", rater(0))
    change(path)
    with pytest.raises(DataError) as raised:
        compare_ratings([path], key=here / "mushra.key.json")
    assert message in raised.value.message
    assert str(path) in raised.value.message


@pytest.mark.parametrize("value", [-1, 101])
def test_ratings_out_of_range_are_errors(here, key, value):
    path = write_ratings(here, key, "x", lambda *_: value)
    with pytest.raises(DataError, match="must be from 0 to 100"):
        compare_ratings([path])


def test_same_listener_twice_is_an_error(here, key, tmp_path):
    path = write_ratings(here, key, "x", rater(0))
    copy = path.with_name("copy.json")
    copy.write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="are from the same listener, `x`"):
        compare_ratings([path, copy])
    assert compare_ratings([path, path, here]).listeners == ("x",)  # the same file, named three times


def test_key_is_found_or_named_or_an_error(here, key, tmp_path, monkeypatch, pages):
    path = write_ratings(here, key, "x", rater(0))
    (here / "a.key.json").write_text("broken")  # another file that looks like a key is passed over
    assert compare_ratings([path]).listeners == ("x",)
    (here / "mushra.key.json").rename(here / "elsewhere")
    with pytest.raises(RunError, match=r"the key of the page .* is neither next to the ratings"):
        compare_ratings([path])
    assert compare_ratings([path], key=here / "elsewhere").listeners == ("x",)
    with pytest.raises(DataError, match="the key belongs to"):
        compare_ratings([path], key=pages / "p835.key.json")
    with pytest.raises(DataError, match="is not the key of a listening test"):
        compare_ratings([path], key=path)
    for change in (lambda of: of.pop("stimuli"), lambda of: next(iter(of["stimuli"].values())).update(system="x")):
        broken = {**key, "stimuli": json.loads(json.dumps(key["stimuli"]))}
        change(broken)
        (here / "broken").write_text(json.dumps(broken))
        with pytest.raises(DataError, match="was changed"):
            compare_ratings([path], key=here / "broken")


def test_unknown_names_and_empty_folders_are_errors(here, key, tmp_path):
    path = write_ratings(here, key, "x", rater(0))
    with pytest.raises(RunError, match="no system is called `beta`: did you mean"):
        compare_ratings([path], baseline="beta")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no ratings file"):
        compare_ratings([tmp_path / "empty"])
    with pytest.raises(DataError, match="can't be read"):
        compare_ratings([tmp_path / "missing.json"])


def test_names_with_html_are_plain_texts(here, key):
    path = write_ratings(here, key, "x", rater(0))
    edited(lambda content: content.update(listener="<b>x</b>"))(path)
    assert compare_ratings([path]).listeners == ("<b>x</b>",)
