"""A page is blinded, made again exactly, and refused or explained where its test would be wrong."""

import base64
import io
import json
import re

import numpy as np
import pytest
import soundfile

from audiozen_core.errors import DataError, RunError
from audiozen_core.listening.anchors import low_pass
from audiozen_core.listening.listen import listen
from tests.core.listening.sessions import SR, key_of, write_folders

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("audio")
    write_folders(root)
    return root


@pytest.fixture
def make(folder, tmp_path):
    """Returns a function that makes a page of `alpha_net` and `beta_net`, or of other folders."""

    def call(*names, root=folder, page="test.html", **options):
        systems = {name: root / name for name in names or ("alpha_net", "beta_net")}
        options = {"clean": root / "clean", "noisy": root / "noisy", "files": 2, **options}
        return listen(systems, tmp_path / page, **options)

    return call


@pytest.fixture
def copied(tmp_path):
    """Writes audio that a test may change."""
    root = tmp_path / "audio"
    write_folders(root)
    return root


def data_of(made):
    """Returns the data in the page."""
    return json.loads(re.findall(r'<script type="application/json" id="test">(.*?)</script>', made.page.read_text())[0])


def samples(data, token):
    return soundfile.read(io.BytesIO(base64.b64decode(data["audio"][token])))


def test_page_has_no_name_of_a_system_or_a_file_and_each_token_is_its_recording(make, folder):
    made = make()
    text = made.page.read_text()
    for name in ("alpha_net", "beta_net", "lowpass3500", "lowpass", str(folder), *made.files, "f0", "f1"):
        assert not re.search(rf"\b{re.escape(name)}\b", re.sub(r'"audio":{.*?}', "", text)), name
    data, key = data_of(made), key_of(made.page)
    assert data["page"] == key["page"] == made.id
    tokens = [token for trial in data["trials"] if not trial["training"] for token in trial["stimuli"]]
    assert sorted(tokens) == sorted(key["stimuli"])
    assert len(tokens) == 2 * 5
    for token, stimulus in key["stimuli"].items():
        wave, sr = samples(data, token)
        assert sr == SR
        if stimulus["path"]:
            np.testing.assert_allclose(wave, soundfile.read(stimulus["path"])[0], atol=2**-15)
        else:
            assert stimulus["system"] == "lowpass3500"
            clean = soundfile.read(folder / "clean" / f"{stimulus['file']}.wav")[0]
            np.testing.assert_allclose(wave, low_pass(clean, SR, 3500), atol=2**-15)
    # The order in the page says nothing: it is that of the tokens, which are hashes.
    assert all(trial["stimuli"] == sorted(trial["stimuli"]) for trial in data["trials"])
    systems = [[key["stimuli"][token]["system"] for token in trial["stimuli"]] for trial in data["trials"][1:]]
    assert systems[0] != systems[1]
    training = data["trials"][0]
    assert not set(training["stimuli"]) & set(key["stimuli"])


def test_same_command_makes_the_same_key_and_another_one_is_refused(make, folder):
    first = make()
    before = first.key.read_bytes()
    assert make().id == first.id
    assert first.key.read_bytes() == before
    with pytest.raises(RunError, match="is the key of another page"):
        make(seed=1)
    assert first.key.read_bytes() == before
    assert make(seed=1, page="other.html").id != first.id
    assert {*make(page="third.html", seed=5).files} <= {"f0", "f1", "f2", "f3"}


def test_names_with_html_show_as_text_and_stay_in_the_key(copied, make):
    (copied / "alpha_net").rename(copied / "evil")
    made = listen(
        {EVIL: copied / "evil"}, copied / "e.html", clean=copied / "clean", noisy=copied / "noisy", title=EVIL, files=1
    )
    text = made.page.read_text()
    assert EVIL not in text
    assert "&lt;img src=x" in text  # the title
    assert key_of(made.page)["systems"][0]["name"] == EVIL


def test_p835_has_every_recording_alone_and_no_reference(make):
    made = make(method="p835")
    data = data_of(made)
    assert [scale["name"] for scale in data["scales"]] == ["signal", "background", "overall"]
    assert all(trial["reference"] is None for trial in data["trials"])
    assert made.systems == ("alpha_net", "beta_net", "noisy", "reference")
    assert len(data["trials"][0]["stimuli"]) == 3  # the training has few


def test_long_file_is_cut_at_its_loudest_part_in_all_recordings(copied, make):
    times = np.arange(3 * SR) / SR
    clean = np.where((times > 1.5) & (times < 2.0), 0.5, 0.01) * np.sin(2 * np.pi * 300 * times)
    for name, gain in (("clean", 1), ("noisy", 0.5), ("alpha_net", 0.25), ("beta_net", 0.8)):
        for file in (copied / name).iterdir():
            file.unlink()
        soundfile.write(copied / name / "long.wav", gain * clean, SR, subtype="FLOAT")
    made = make(root=copied, seconds=0.5, files=1)
    data, key = data_of(made), key_of(made.page)
    begin = key["settings"]["begins"]["long"]
    assert begin == pytest.approx(1.5, abs=0.1)
    assert data["trials"][1]["seconds"] == 0.5
    (token,) = [token for token, of in key["stimuli"].items() if of["system"] == "alpha_net"]
    wave = samples(data, token)[0]
    expected = 0.25 * clean[round(begin * SR) :][: len(wave)]
    np.testing.assert_allclose(wave[200:-200], expected[200:-200], atol=2**-15)
    assert abs(wave[0]) < 1e-4  # faded, because a cut clicks


def test_same_loudness_gives_all_the_level_of_the_reference(make):
    made = make(same_loudness=True, files=1)
    data, key = data_of(made), key_of(made.page)
    levels = [np.sqrt(np.mean(samples(data, token)[0] ** 2)) for token in key["stimuli"]]
    np.testing.assert_allclose(levels, levels[0], rtol=1e-3)
    plain = make(files=1, page="plain.html")
    levels = [np.sqrt(np.mean(samples(data_of(plain), token)[0] ** 2)) for token in key_of(plain.page)["stimuli"]]
    assert max(levels) / min(levels) > 1.05


def test_loud_recordings_are_made_quieter_together_and_never_clipped(copied, make):
    for name in ("clean", "alpha_net"):
        for file in (copied / name).iterdir():
            wave = soundfile.read(file)[0]
            soundfile.write(file, wave * (10 if name == "alpha_net" else 1), SR, subtype="FLOAT")
    made = make(root=copied, files=1)
    assert any("attenuated to prevent clipping" in note for note in made.notes)
    data, key = data_of(made), key_of(made.page)
    level = {of["system"]: np.abs(samples(data, token)[0]).max() for token, of in key["stimuli"].items()}
    assert level["alpha_net"] == pytest.approx(1, abs=1e-3)
    assert level["reference"] < 0.2


def test_files_that_nobody_can_hear_are_replaced_and_reported(copied, make):
    soundfile.write(copied / "clean/f0.wav", np.zeros(4800), SR)
    wave = soundfile.read(copied / "alpha_net/f1.wav")[0]
    wave[7] = np.nan
    soundfile.write(copied / "alpha_net/f1.wav", wave, SR, subtype="FLOAT")
    soundfile.write(copied / "beta_net/f2.wav", np.zeros(4800), SR)
    made = make(root=copied, files=4)
    (left,) = [note for note in made.notes if "can't be used" in note]
    assert "f0 (" in left
    assert "is silent" in left
    assert "f1 (" in left
    assert "NaN" in left
    assert set(made.files) <= {"f2", "f3"}
    # A system that puts out silence has failed. It is heard, because leaving it out would flatter the system.
    assert any("beta_net is silent: f2" in note for note in made.notes)
    for file in (copied / "clean").iterdir():
        soundfile.write(file, np.zeros(4800), SR)
    with pytest.raises(DataError, match="no file can be used"):
        make(root=copied, page="none.html")


def test_other_rates_channels_lengths_and_inputs_are_reported(copied, make):
    for file in (copied / "beta_net").iterdir():
        soundfile.write(file, soundfile.read(file)[0][::2][:1800], SR // 2)
    for file in (copied / "alpha_net").iterdir():
        soundfile.write(file, np.stack([soundfile.read(file)[0]] * 2, axis=1), SR)
    made = make(root=copied)
    text = "\n".join(made.notes)
    assert "beta_net has 8000 Hz and is resampled to 16000 Hz, so it lacks the highest frequencies" in text
    assert "beta_net is 0.07 s shorter than reference" in text
    assert "alpha_net has 2 channels" in text
    lengths = {len(samples(data_of(made), token)[0]) for token in key_of(made.page)["stimuli"]}
    assert len(lengths) == 1


def test_few_files_and_missing_ones_are_reported(copied, make):
    (copied / "beta_net/f3.wav").unlink()
    made = make(root=copied, files=8)
    assert set(made.files) == {"f0", "f1", "f2"}
    text = "\n".join(made.notes)
    assert "only 3 of 8 files are available" in text
    assert "1 file of alpha_net can't be used, because another system lacks it: f3" in text
    for file in (copied / "beta_net").iterdir():
        file.rename(file.with_name(f"x{file.name}"))
    with pytest.raises(DataError, match=r"no file in common|have no partner file"):
        make(root=copied, page="b.html")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clean": None}, "MUSHRA needs clean recordings"),
        ({"page": "test.pdf"}, "must end in `.html`"),
        ({"anchors": ["lowpass7000", "none"]}, "either give only `none`"),
        ({"method": "p835", "names": ["alpha_net"], "clean": None, "noisy": None}, "needs more than one system"),
        ({"names": ["alpha_net", "missing"]}, "does not exist"),
    ],
)
def test_wrong_arguments_are_errors(make, options, message):
    names = options.pop("names", ())
    with pytest.raises((RunError, DataError)) as raised:
        make(*names, **options)
    assert message in f"{raised.value.message} {raised.value.remedy}"


def test_names_are_clear(folder, tmp_path):
    with pytest.raises(RunError, match="2 systems are called `alpha_net`"):
        listen([folder / "alpha_net", f"{folder}/../{folder.name}/alpha_net"], tmp_path / "a.html")
    with pytest.raises(RunError, match="this is the name of an anchor"):
        listen([folder / "noisy"], tmp_path / "a.html", clean=folder / "clean")
    with pytest.raises(RunError, match="stands for 2 runs"):
        listen([f"{folder}/alpha_net,{folder}/beta_net"], tmp_path / "a.html")


def test_many_systems_are_reported_and_too_many_refused(folder, tmp_path, make):
    systems = {f"s{number}": folder / "alpha_net" for number in range(30)}
    options = {"clean": folder / "clean", "noisy": folder / "noisy", "files": 1}
    made = listen(dict(list(systems.items())[:10]), tmp_path / "many.html", **options)
    assert any("a trial has 13 recordings, but BS.1534 recommends at most 12" in note for note in made.notes)
    with pytest.raises(RunError, match="33 recordings in a trial are too many"):
        listen(systems, tmp_path / "more.html", **options)
    assert not (tmp_path / "more.html").exists()
    assert any("recommends at most 12" in note for note in make(seconds=13).notes)
