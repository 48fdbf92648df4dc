"""A long manifest and large folders are looked at once, kept as arrays, and shared by all workers."""

from __future__ import annotations

import csv
import gc
import pickle
from array import array
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from structlog.testing import capture_logs

from audiozen.dataset import AudioFolder, MixtureFolders, NoisyCleanFolders, NoisySpeechMix, SpeakerMix
from audiozen_core.audio import listing, table_cache
from audiozen_core.data.loader import BatchLoader
from audiozen_core.data.unreadable_files import skip_unreadable_files
from audiozen_core.errors import DataError
from audiozen_plugins.dataset import pool, recordings
from audiozen_plugins.dataset.pairs import AlignedList
from audiozen_plugins.dataset.remarks import Remarks

SR = 16000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for module in (listing, recordings):
        monkeypatch.setattr(module, "WORTH_REMEMBERING", 6)
    monkeypatch.setattr(table_cache, "_SETTLED_SECONDS", -1.0)  # so that a file may have changed just now
    return tmp_path / "cache" / "audiozen" / "listings"


@pytest.fixture
def write_manifest(write, tmp_path):
    """Writes a manifest of two voices and a noise that lists its files again and again."""

    def write_manifest(rows: int = 6) -> Path:
        for name in ("a1", "a2", "b1", "noise"):
            write(f"{name}.wav", seconds=0.2 if name == "a1" else 0.3)
        manifest = tmp_path / "manifest.csv"
        with manifest.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("file", "role", "voice", "kind", "split"))
            writer.writerow(("noise.wav", "noise", "", "hum", "train"))
            for number in range(rows - 1):
                name = ("a1", "a2", "b1")[number % 3]
                writer.writerow((f"{name}.wav", "speech", name[0], "", "train"))
        return manifest

    return write_manifest


def audio(opened: list[str]) -> list[str]:
    return [Path(name).name for name in opened if name.endswith(".wav")]


def items(data):
    return [(item["id"], item["noisy"]) for batch in BatchLoader(data, shuffle=True).epoch(3) for item in [batch]]


def same(one, other):
    return all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("cls", [NoisySpeechMix, SpeakerMix])
@pytest.mark.parametrize("clip_seconds", [None, 0.1, 0.7])
def test_a_remembered_manifest_gives_the_same_items_and_reads_no_header(write_manifest, opened, cls, clip_seconds):
    manifest = write_manifest()
    arguments = {"manifest": manifest, "clip_seconds": clip_seconds, "cache_mb": 0}
    first = cls(**arguments)
    assert len(audio(opened)) >= 5
    opened.clear()
    second = cls(**arguments)
    assert audio(opened) == []
    assert str(manifest) not in opened
    assert second.speech.recordings.table.file is not None
    assert same(items(first), items(second))
    assert list(second.speech.recordings) == list(first.speech.recordings)
    assert [one.name for one in second.speech.recordings] == ["a-a1", "a-a2", "b-b1", "a-a1~2", "a-a2~2"]


def test_few_recordings_are_not_remembered(write_manifest, opened, cache):
    manifest = write_manifest(5)
    for _ in range(2):
        opened.clear()
        NoisySpeechMix(manifest=manifest, cache_mb=0)
        assert len(audio(opened)) == 5
    assert not cache.exists()


def test_a_manifest_that_has_changed_is_read_again(write_manifest):
    assert len(NoisySpeechMix(manifest=write_manifest(6))) == 5
    assert len(NoisySpeechMix(manifest=write_manifest(9))) == 8


def test_roles_and_splits_are_remembered_apart(write_manifest):
    manifest = write_manifest()
    for _ in range(2):
        data = NoisySpeechMix(manifest=manifest, split="train")
        assert (len(data.speech), len(data.noise)) == (5, 1)
        with pytest.raises(DataError, match="no speech in the split `test`"):
            NoisySpeechMix(manifest=manifest, split="test")


def test_a_file_that_has_changed_since_it_was_remembered_is_an_error_that_says_what_to_delete(write_manifest, write):
    manifest = write_manifest()
    for _ in range(2):
        data = NoisySpeechMix(manifest=manifest, cache_mb=0)
    path = write("a1.wav", seconds=0.4)
    with pytest.raises(DataError, match=r"1\.wav` has 6400 samples, but it had 3200 when its header") as error:
        data.speech.read(0)
    assert str(data.speech.recordings.table.file) in error.value.remedy
    assert len(data.speech.read(1)) == 4800
    data.speech.recordings.table.file.unlink()
    assert NoisySpeechMix(manifest=manifest, cache_mb=0).speech.lengths[0] == 6400
    path.unlink()
    with pytest.raises(DataError, match="does not exist"):
        data.speech.read(0)


def test_a_cached_pool_has_the_lengths_that_it_has_read(write_manifest, write):
    manifest = write_manifest()
    NoisySpeechMix(manifest=manifest)
    write("a1.wav", seconds=0.4)
    data = NoisySpeechMix(manifest=manifest)
    assert data.speech.cached
    assert data.speech.lengths[0] == len(data.speech.read(0)) == 6400


def test_another_sample_rate_reads_the_headers_again(write_manifest):
    manifest = write_manifest()
    NoisySpeechMix(manifest=manifest)
    with pytest.raises(DataError, match="sample rate of 16000 Hz, but 8000 Hz"):
        NoisySpeechMix(manifest=manifest, sr=8000)
    NoisySpeechMix(manifest=manifest)


def test_headers_of_another_rate_replace_those_that_are_remembered(write_manifest):
    manifest = write_manifest()
    NoisySpeechMix(manifest=manifest)
    known = recordings.from_manifest(manifest, role="speech", split=None)
    assert known.table.facts["sr"] == SR
    known.with_headers(recordings.Headers(array("q", known.frames), 8000, Remarks()))
    assert recordings.from_manifest(manifest, role="speech", split=None).table.facts["sr"] == 8000


def test_a_manifest_that_can_not_be_looked_at_is_not_remembered(write_manifest, monkeypatch, cache):
    manifest = write_manifest()

    def look_at(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(recordings, "file_stamp", look_at)
    NoisySpeechMix(manifest=manifest)
    assert not cache.exists() or not list(cache.glob("*.table"))


def test_remarks_are_said_at_each_start(write_manifest, write):
    manifest = write_manifest()
    write("a2.wav", wave=np.full((3200, 2), 0.1))
    for _ in range(2):
        with capture_logs() as logs:
            NoisySpeechMix(manifest=manifest, cache_mb=0)
        assert [log["event"] for log in logs if "several channels" in log["event"]] == [
            "2 of 5 files have several channels, which are averaged to one"
        ]


def test_files_that_can_not_be_read_are_found_at_each_start(write_manifest, tmp_path):
    manifest = write_manifest()
    (tmp_path / "a2.wav").write_bytes(b"no audio")
    for _ in range(2):
        errors = []
        with skip_unreadable_files(errors.append):
            data = NoisySpeechMix(manifest=manifest, cache_mb=0)
        assert len(errors) == 2
        assert [one.name for one in data.speech.recordings] == ["a-a1", "b-b1", "a-a1~2"]
        assert list(data.speech.lengths) == [3200, 4800, 3200]
        with pytest.raises(DataError):
            NoisySpeechMix(manifest=manifest, cache_mb=0)


def test_headers_are_read_in_the_order_of_the_recordings_by_any_number_of_threads(write_manifest, monkeypatch):
    manifest = write_manifest(40)
    expected = list(NoisySpeechMix(manifest=manifest, cache_mb=0).speech.lengths)
    monkeypatch.setattr(pool, "_PART", 3)
    monkeypatch.setattr(pool, "_AT_ONCE", 2)
    manifest.touch()  # so that all headers are read again
    assert list(NoisySpeechMix(manifest=manifest, cache_mb=0).speech.lengths) == expected
    assert expected[:3] == [3200, 4800, 4800]


def folders(tmp_path: Path, names: list[str], count: int = 6) -> list[Path]:
    for name in names:
        (tmp_path / name).mkdir()
        for number in range(count):
            wave = np.random.default_rng(number).uniform(-0.5, 0.5, 3200)
            soundfile.write(tmp_path / name / f"{number}.wav", wave, SR)
    return [tmp_path / name for name in names]


def test_remembered_pairs_are_the_same_and_are_not_checked_again(tmp_path, opened):
    noisy, clean = folders(tmp_path, ["noisy", "clean"])
    opened.clear()
    first = NoisyCleanFolders(noisy, clean, clip_seconds=0.1)
    assert len(audio(opened)) == 12
    opened.clear()
    second = NoisyCleanFolders(noisy, clean, clip_seconds=0.1)
    assert audio(opened) == []
    assert list(first.pairs) == list(second.pairs)
    assert same(items(first), items(second))


def test_files_to_enhance_are_remembered_until_one_is_added(tmp_path, opened):
    (noisy,) = folders(tmp_path, ["noisy"])
    opened.clear()
    first = AudioFolder(noisy)
    assert len(audio(opened)) == 6
    opened.clear()
    second = AudioFolder(noisy)
    assert audio(opened) == []
    assert list(first.files) == list(second.files)
    assert same(items(first), items(second))
    soundfile.write(noisy / "new.wav", np.full(100, 0.1), 8000)
    with pytest.raises(DataError, match="has a sample rate of 8000 Hz"):
        AudioFolder(noisy)
    (noisy / "new.wav").unlink()
    with pytest.raises(DataError, match="has a sample rate of 16000 Hz"):  # the headers of this rate are not remembered
        AudioFolder(noisy, sr=8000)


def test_a_new_pair_is_found_and_checked(tmp_path, opened):
    noisy, clean = folders(tmp_path, ["noisy", "clean"])
    NoisyCleanFolders(noisy, clean)
    soundfile.write(noisy / "new.wav", np.full(100, 0.1), SR)
    with pytest.raises(DataError, match="1 file without a partner"):
        NoisyCleanFolders(noisy, clean)
    soundfile.write(clean / "new.wav", np.full(101, 0.1), SR)
    for _ in range(2):
        with pytest.raises(DataError, match="has 100 samples, but its clean partner"):
            NoisyCleanFolders(noisy, clean)
    assert len(NoisyCleanFolders(noisy, clean, check=False)) == 7


def test_pairs_that_were_matched_without_a_check_are_checked_when_it_is_asked_for(tmp_path):
    noisy, clean = folders(tmp_path, ["noisy", "clean"])
    soundfile.write(clean / "3.wav", np.full(100, 0.1), SR)
    NoisyCleanFolders(noisy, clean, check=False)
    with pytest.raises(DataError, match="but its clean partner"):
        NoisyCleanFolders(noisy, clean)


def test_pairs_keep_their_snrs_if_one_of_them_can_not_be_read(tmp_path):
    noisy, clean = folders(tmp_path, ["noisy", "clean"])
    names = [f"{number}.wav" for number in range(3)]
    (noisy / names[1]).write_bytes(b"no audio")
    pairs = AlignedList.from_columns(
        {"noisy": noisy, "clean": clean}, names, {"noisy": names, "clean": names}, [0.0, 5.0, 10.0]
    )
    with skip_unreadable_files(lambda error: None):
        kept = pairs.checked(SR, Remarks())
    assert [(pair.id, pair.snr) for pair in kept[:]] == [("0.wav", 0.0), ("2.wav", 10.0)]


def test_a_file_that_was_overwritten_in_place_is_found_when_it_is_read(tmp_path):
    mix, *_ = folders(tmp_path, ["mix", "s1", "s2"])
    MixtureFolders(tmp_path)
    soundfile.write(mix / "2.wav", np.full(100, 0.1), SR)
    data = MixtureFolders(tmp_path)
    with pytest.raises(DataError, match="but its source_1 partner"):
        data[2]


def test_a_folder_of_recordings_is_remembered_with_its_listing(tmp_path, opened):
    speech, noise = folders(tmp_path, ["speech", "noise"])
    arguments = {"speech_dir": speech, "noise_dir": noise, "cache_mb": 0}
    first = NoisySpeechMix(**arguments)
    opened.clear()
    assert same(items(first), items(second := NoisySpeechMix(**arguments)))
    assert second.speech.recordings.table.file is not None
    soundfile.write(speech / "new.wav", np.full(3200, 0.1), SR)
    assert len(NoisySpeechMix(**arguments).speech) == 7


def test_what_a_worker_is_sent_does_not_grow_with_the_number_of_files(write_manifest, tmp_path):
    sizes = []
    for rows in (6, 3000):
        manifest = write_manifest(rows)
        for _ in range(2):
            data = NoisySpeechMix(manifest=manifest, cache_mb=0, fixed=True)
        content = pickle.dumps(data)
        assert torch.equal(pickle.loads(content)[4]["noisy"], data[4]["noisy"])  # noqa: S301
        sizes.append(len(content))
    assert sizes[1] - sizes[0] < 500
    in_memory = recordings.Recordings.from_recordings(data.speech.recordings)
    assert len(pickle.dumps(in_memory)) > 50_000  # the control


def test_no_object_is_kept_for_each_file_or_item(write_manifest):
    def kept(rows: int) -> int:
        manifest = write_manifest(rows)
        NoisySpeechMix(manifest=manifest, cache_mb=0)
        gc.collect()
        before = len(gc.get_objects())
        loader = BatchLoader(
            NoisySpeechMix(manifest=manifest, cache_mb=0, clip_seconds=0.1), batch_size=2, shuffle=True
        )
        epoch = loader.epoch(1)
        next(epoch)
        gc.collect()
        return len(gc.get_objects()) - before

    kept(6)
    few, many = kept(6), kept(3000)
    assert abs(many - few) < 100


def test_a_first_start_keeps_no_object_for_each_file_either(write_manifest, monkeypatch):
    monkeypatch.setattr(recordings, "WORTH_REMEMBERING", 10**9)
    gc.collect()
    before = len(gc.get_objects())
    data = NoisySpeechMix(manifest=write_manifest(3000), cache_mb=0)
    gc.collect()
    assert len(gc.get_objects()) - before < 500
    listed = list(data.speech.recordings)
    assert len(gc.get_objects()) - before > len(listed)  # the control: there is an object for each in a list
