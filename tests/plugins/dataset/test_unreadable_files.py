"""Files that can't be read raise an error, or are skipped."""

import shutil

import numpy as np
import pytest
import soundfile

from audiozen.dataset import AudioFolder, NoisyCleanFolders, NoisySpeechMix
from audiozen_core.data.unreadable_files import keep_readable, skip_unreadable_files
from audiozen_core.errors import DataError


@pytest.fixture
def folders(tmp_path):
    """Writes four clips of each kind. The second is text, and the third has a valid header and a damaged body."""
    waves = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 4, 4000))
    for kind, clips in zip(("speech", "noise"), waves, strict=True):
        (tmp_path / kind).mkdir()
        for index, wave in enumerate(clips):
            soundfile.write(tmp_path / kind / f"{index}.flac", wave, 16000)
        (tmp_path / kind / "1.flac").write_text("no audio")
        whole = (tmp_path / kind / "2.flac").read_bytes()
        (tmp_path / kind / "2.flac").write_bytes(whole[:1000] + bytes(len(whole) - 1000))
    return tmp_path


@pytest.mark.parametrize("cache_mb", [100, 0], ids=["in memory", "from the files"])
def test_mixtures_use_only_readable_recordings(folders, cache_mb):
    arguments = {"speech_dir": folders / "speech", "noise_dir": folders / "noise", "cache_mb": cache_mb, "fixed": True}
    with pytest.raises(DataError, match=r"1\.flac"):
        NoisySpeechMix(**arguments)
    errors = []
    with skip_unreadable_files(errors.append):
        mixtures = NoisySpeechMix(**arguments)
    # Without a cache, only the header has been read so far, so the damaged body of file 2 is not detected.
    names = ["0", "2", "3"] if cache_mb == 0 else ["0", "3"]
    assert [recording.name for recording in mixtures.speech.recordings] == names
    assert len(errors) == 2 * (4 - len(names))
    assert "speech/1.flac" in errors[0].message
    for recording, name in enumerate(names):
        if name != "2":
            wave, _ = soundfile.read(folders / "speech" / f"{name}.flac", dtype="float32")
            assert np.array_equal(mixtures.speech.read(recording), wave)
    assert len(mixtures) == len(names)
    if cache_mb:
        assert all(mixtures[index]["noisy"].isfinite().all() for index in range(len(mixtures)))


def test_data_set_without_readable_files_is_an_error(folders):
    for path in (folders / "speech").iterdir():
        path.write_text("no audio")
    shutil.copytree(folders / "speech", folders / "clean")
    for build in (
        lambda: NoisySpeechMix(speech_dir=folders / "speech", noise_dir=folders / "noise"),
        lambda: AudioFolder(folders / "speech"),
        lambda: NoisyCleanFolders(folders / "speech", folders / "clean"),
    ):
        with (
            skip_unreadable_files(lambda error: None),
            pytest.raises(DataError, match=r"all 4 files of the data set are unreadable; the first error: .*0\.flac"),
        ):
            build()


def test_folders_skip_files_without_a_valid_header(folders):
    shutil.copytree(folders / "speech", folders / "clean")
    errors = []
    with skip_unreadable_files(errors.append):
        assert len(NoisyCleanFolders(folders / "speech", folders / "clean")) == 3
        assert [file.id for file in AudioFolder(folders / "speech").files] == ["0", "2", "3"]
    assert len(errors) == 2


def test_error_raised_by_the_callback_stops_the_skipping():
    def enough(error):
        raise DataError("too many", remedy="check the files") from error

    def check(item):
        if item:
            raise DataError(f"{item} is bad")

    with skip_unreadable_files(enough), pytest.raises(DataError, match="too many"):
        keep_readable([0, 1], check)
    with pytest.raises(DataError, match="1 is bad"):
        keep_readable([0, 1], check)
