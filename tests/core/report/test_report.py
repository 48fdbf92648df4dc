"""The page says what the scores say, holds what it shows, and says what is missing."""

import base64
import html
import io
import json
import re
import shutil

import numpy as np
import pytest
import soundfile

from audiozen_core.comparison.compare import compare
from audiozen_core.errors import DataError, RunError
from audiozen_core.report.report import write_report
from audiozen_core.results.reading import read_scores
from audiozen_core.results.samples import read_samples
from tests.core.report.conftest import EVIL


def plain(text):
    """Returns what a reader sees of a page, without its scripts, styles and audio."""
    text = re.sub(r"<(script|style).*?</\1>", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", text)))


def results_of(runs, name):
    (folder,) = (runs / name).glob("test/*/0")
    return folder


def section(page, name):
    _, _, rest = page.text.partition(f'<section id="{name}"')
    return rest[: re.search(r'<section id="(?!clip)|<script|</main>', rest).start()]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # pages are written into the present folder


@pytest.fixture
def write(tmp_path):
    def of(name, rows, header="id,pesq"):
        (tmp_path / name).write_text("\n".join([header, *rows]) + "\n")
        return name

    return of


def shown(systems, **options):
    done = write_report(systems, "out/page.html", **options)
    return done, plain(done.path.read_text(encoding="utf-8"))


def test_page_holds_all_that_it_shows(page):
    assert "default-src 'none'" in page.text
    assert page.written.size == len(page.text.encode()) < 15e6
    addresses = re.findall(r'(?:src|href)="([^"]*)"', re.sub(r"<script.*?</script>", "", page.text, flags=re.DOTALL))
    assert {address[:5] for address in addresses} <= {
        "data:",
        *(address[:5] for address in addresses if address[0] == "#"),
    }
    assert page.written.clips == len(re.findall(r'<section class="clip" id="clip', page.text)) == 4


def test_numbers_are_those_of_the_comparison(page, runs):
    comparison = compare({"slow": runs / "slow", "fast": [runs / "fast_seed_1", runs / "fast_seed_2"]})
    one = comparison.difference("si_sdr", "fast")
    text = plain(section(page, "summary"))
    for name in ("slow", "fast"):
        mean = comparison.mean("si_sdr", name)
        assert f"{mean.mean:.2f} {mean.low:.2f} to {mean.high:.2f}" in text.replace("\u2212", "-")
    assert ("not certain" if not one.verdict else f"{one.verdict} by") in text
    noisy = json.loads((results_of(runs, "slow") / "scores.json").read_text())["all"]["si_sdr"]["noisy"]
    assert f"noisy the unprocessed files {noisy:.2f}" in text


def test_audio_is_that_of_the_test(page, runs):
    folder = results_of(runs, "slow") / "audio"
    (name,) = re.findall(r'id="clip-0-name" class="file">(.*?)<', page.text)
    tracks = re.findall(r'<figure class="track".*?</figure>', page.text, re.DOTALL)[:4]
    heard = [re.findall(r"<b>(.*?)</b>", track)[0] for track in tracks]
    assert heard == ["noisy", "slow", html.escape(EVIL), "clean"]
    for track, file in zip(tracks, ("noisy", "enhanced", None, "clean"), strict=True):
        samples, _ = soundfile.read(io.BytesIO(base64.b64decode(re.findall(r"audio/flac;base64,([^\"]*)", track)[0])))
        path = folder / f"{name}_{file}.wav" if file else results_of(runs, "fast_seed_1") / f"audio/{name}_enhanced.wav"
        np.testing.assert_allclose(samples, soundfile.read(path)[0], atol=2**-15)


def test_scores_beside_a_recording_are_those_of_the_seed_that_is_heard(page, runs):
    (name,) = re.findall(r'id="clip-0-name" class="file">(.*?)<', page.text)
    first, second = (
        next(file.values["si_sdr"] for file in read_scores(runs / seed).files if file.id == name)
        for seed in ("fast_seed_1", "fast_seed_2")
    )
    assert f"{first:.2f}" != f"{(first + second) / 2:.2f}"
    track = re.findall(r'<figure class="track".*?</figure>', page.text, re.DOTALL)[2]
    assert f"{EVIL} SI-SDR {first:.2f} dB" in plain(track).replace("\u2212", "-")
    assert "For a system with several seeds, you hear the first seed" in plain(section(page, "listen"))


def test_validation_samples_show_the_epochs(page, runs):
    text = section(page, "samples")
    clips = re.findall(r'<section class="clip".*?</section>', text, re.DOTALL)
    assert len(clips) == 1
    assert plain(text).count("The hook samples saves them") == 3  # the other runs have none
    assert re.findall(r"<b>(.*?)</b>", clips[0]) == ["noisy", "epoch 1", "epoch 2", "clean"]
    (sample,) = [each for each in read_samples(runs / "slow") if each.epoch == 2 and f">{each.id}<" in clips[0]]
    wave, _ = soundfile.read(runs / "slow/samples" / sample.signals["enhanced"].path)
    found = re.findall(r'audio/flac;base64,([^"]*)', clips[0])[2]
    np.testing.assert_allclose(soundfile.read(io.BytesIO(base64.b64decode(found)))[0], wave, atol=2**-14)


def test_run_without_samples_is_reported(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs / "untested", run, ignore=shutil.ignore_patterns("samples"))
    text = plain(write_report([run], tmp_path / "page.html").path.read_text(encoding="utf-8"))
    assert "No validation samples of run : the run has none. The hook samples saves them" in text


def test_text_with_html_shows_as_text(page):
    assert EVIL not in page.text
    assert EVIL in plain(page.text)


def test_run_without_a_test_is_reported_with_a_remedy(page):
    assert list(page.written.missing) == ["untested"]
    assert (
        "has no test, so it has no results. Test the run first: <code>audiozen run EXP.toml --mode test</code>."
        in page.text
    )
    assert "untested" in section(page, "curves")


def test_curves_settings_and_environment_of_all_runs(page, runs):
    (data,) = re.findall(r'id="chart-data">(.*?)</script>', page.text)
    charts = {chart["name"]: chart["lines"] for chart in json.loads(data)}
    assert {"loss", "si_sdr"} <= set(charts)
    assert {line["run"] for line in charts["loss"]} == {
        "slow", f"{EVIL} (fast_seed_1)", f"{EVIL} (fast_seed_2)", "untested"
    }  # fmt: skip
    records = [json.loads(line) for line in (runs / "slow/metrics.jsonl").read_text().splitlines()]
    (train,) = [line for line in charts["loss"] if (line["run"], line["part"]) == ("slow", "train")]
    expected = [record["train/loss"] for record in records if "train/loss" in record]
    np.testing.assert_allclose(train["values"], expected, rtol=1e-5)
    text = plain(section(page, "settings"))
    assert re.search(r"optimizer\.args\.lr 0\.0001 0\.02 0\.01", text)
    text = plain(section(page, "runs"))
    assert text.count("finished, epoch 2 of 2") == 4
    assert "Peak memory" in text
    assert re.search(r"train test finished.*? [\d.]+ [MG]B", text)


def test_one_run_is_compared_with_what_it_was_given(runs, tmp_path):
    done = write_report([runs / "slow"], tmp_path / "page.html", files=1)
    text = plain(done.path.read_text(encoding="utf-8"))
    assert "differences from noisy" in text
    assert "noisy the unprocessed files · the others" not in text
    assert done.clips == 3


def test_run_that_is_being_written(runs, tmp_path):
    young = tmp_path / "young"
    shutil.copytree(runs / "untested", young, ignore=shutil.ignore_patterns("checkpoints"))
    records = (young / "metrics.jsonl").read_bytes()
    (young / "metrics.jsonl").write_bytes(records[: len(records) - 20])
    done = write_report([young], tmp_path / "page.html")
    text = plain(done.path.read_text(encoding="utf-8"))
    assert "No system has scores yet." in text
    assert "has no test" in done.missing["young"]
    assert "young has no scores." in text
    assert "No file was chosen, because no system has scores." in text


def test_other_test_sets_are_reported_and_not_compared(write):
    one = write("a.csv", [f"x{index},{index}" for index in range(6)])
    two = write("b.csv", [f"x{index},{index + 1}" for index in range(6)])
    other = write("c.csv", [f"y{index},{index}" for index in range(6)])
    done, text = shown([one, two, other])
    assert done.verdicts == ("b is certainly better than a in pesq (by 1.00).",)
    assert "not compared, because of a different test set than a: c" in text
    assert "not compared, because it has other files" in text
    done, text = shown([one, other])
    assert done.verdicts == (
        "The scores of these systems are not compared; the notes below the tables give the reasons.",
    )


def test_metric_that_one_system_lacks_is_shown_for_the_others(write):
    rows = [f"x{index},{index},{index * 2}" for index in range(6)]
    write("a.csv", rows, "id,pesq,stoi")
    write("b.csv", [f"x{index},{index + 1}" for index in range(6)])
    _, text = shown(["a.csv", "b.csv"])
    assert "stoi is not compared, because it has no values in b" in text
    assert "not computed" in text


def test_missing_values_are_counted(write):
    write("a.csv", [f"x{index},{index}" for index in range(6)])
    write("b.csv", [f"x{index},{index + 1 if index else ''}" for index in range(6)])
    _, text = shown(["a.csv", "b.csv"])
    assert "1 without a value" in text
    assert "Means over 6 files" in text


def test_equal_systems_are_called_equal(write):
    rows = [f"x{index},{index}" for index in range(12)]
    write("a.csv", rows)
    write("same.csv", rows)
    write("worse.csv", [f"x{index},{index - 1 - index / 9}" for index in range(12)])
    done, text = shown(["a.csv", "same.csv", "worse.csv"])
    assert done.verdicts[:2] == (
        "a and same have the best pesq, with the same value for every file, certainly better than all other systems.",
        "same and a are the same in pesq for every file.",
    )
    assert "same is worse than a" not in text
    assert "files of same" not in text
    assert "The scores of a and same are identical, file by file." in section_of_summary(done)


def section_of_summary(done):
    text = done.path.read_text(encoding="utf-8")
    return plain(text[text.index('id="summary"') : text.index('id="scores"')])


def test_summary_says_what_limits_its_verdicts(write):
    write("a.csv", [f"x{index},{index}" for index in range(12)])
    write("b.csv", [f"x{index},{index + 1}" for index in range(9, 14)])
    done, _ = shown(["a.csv", "b.csv"])
    summary = section_of_summary(done)
    assert "All means are over the 3 files that all systems share: a has 9 more and b has 2 more." in summary
    assert "No difference can be significant: so few files differ" in summary
    assert "Each system has one run:" in summary
    write("c.csv", [f"x{index},{index + 1}" for index in range(12)])
    done, _ = shown(["a.csv", "c.csv"])
    assert "All means are over" not in section_of_summary(done)
    assert "No difference can be significant" not in section_of_summary(done)


def test_a_renamed_copy_is_the_same_run(runs, tmp_path):
    copy = shutil.copytree(runs / "slow", tmp_path / "copy")
    assert (copy / "slow.log").is_file()
    done = write_report([runs / "slow", copy], tmp_path / "page.html", files=1)
    text = plain(done.path.read_text(encoding="utf-8"))
    assert "parameters not recorded" not in text
    assert "equal to slow, as for every file." in text
    assert "the worst of" not in text


def test_many_files_have_a_short_table_and_no_recordings(write):
    write("a.csv", [f"x{index},{index}" for index in range(500)])
    write("b.csv", [f"x{index},{index * 1.1}" for index in range(500)])
    done, text = shown(["a.csv", "b.csv"])
    assert "The 200 worst and the 200 best of 500 files." in text
    assert "The recordings of these scores were not found: the recordings were not saved." in text
    assert done.size < 1e6


def test_lower_is_better_and_metric_rank_the_files(write):
    write("a.csv", [f"x{index},{index},{index / 10}" for index in range(12)], "id,pesq,wer")
    write("b.csv", [f"x{index},{index},{index / 20}" for index in range(12)], "id,pesq,wer")
    done, text = shown(["a.csv", "b.csv"], metric="wer", lower_is_better=["wer"])
    assert "better for 11, worse for 0 of 12 files" in text
    assert "better than a in wer" in done.verdicts[0]


def test_conditions_are_grouped(write):
    write("a.csv", [f"x_snr_{index % 2}_{index},{index}" for index in range(8)])
    write("b.csv", [f"x_snr_{index % 2}_{index},{index + (1 if index % 2 else -1)}" for index in range(8)])
    _, text = shown(["a.csv", "b.csv"], by=["snr"])
    assert "its worst result is for snr 0: worse by 1.00" in text


def test_page_is_kept_small_and_says_so(runs, tmp_path):
    large = write_report([runs / "fast_seed_1"], tmp_path / "large.html", files=1)
    small = write_report([runs / "fast_seed_1"], tmp_path / "small.html", files=1, megabytes=large.size / 1e6 - 0.1)
    assert small.size < large.size - 1e5
    assert 0 < small.clips < large.clips
    left_out = large.clips - small.clips
    assert small.size_notes == (f"Left out to limit the size of the page: {left_out} clip{'s' * (left_out > 1)} of 3.",)
    assert small.size_notes[0] in plain(small.path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"metric": "pesk"}, RunError, "no system has the metric `pesk`: did you mean `pesq`"),
        ({"by": ["snr"]}, RunError, "no file has the condition `snr`"),
    ],
)
def test_wrong_names_are_errors(write, options, error, says):
    write("a.csv", [f"x{index},{index}" for index in range(3)])
    write("b.csv", [f"x{index},{index}" for index in range(3)])
    with pytest.raises(error, match=says):
        write_report(["a.csv", "b.csv"], "page.html", **options)


def test_folder_without_anything_is_an_error(tmp_path):
    with pytest.raises(DataError, match="has no scores"):
        write_report([tmp_path], tmp_path / "page.html")


def test_command(runs, tmp_path, monkeypatch, capsys):
    from click.testing import CliRunner

    from audiozen_core.cli.report import command

    done = CliRunner().invoke(command, [str(runs / "slow"), str(runs / "untested"), "-o", str(tmp_path / "x/r.html")])
    assert done.exit_code == 0, done.output
    assert re.search(r"report: .*x/r\.html \(\d\.\d MB, 4 clips\)", done.output)
    assert "note: untested: The run" in done.output
    assert (tmp_path / "x/r.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
