"""Files, patterns and manifests become jobs: which files, and what the results are called."""

import os
from pathlib import Path

import pytest

from audiozen_core.errors import DataError
from audiozen_core.inference.inputs import list_jobs


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).touch()


def test_path_in_a_manifest_may_have_a_line_break(place):
    write("two\nlines.wav")
    Path("list.csv").write_text('\ufefffile,snr\n"two\nlines.wav",5\n', encoding="utf-8")
    (job,) = list_jobs(["list.csv"], Path("out"))
    assert (job.source, job.target) == (place / "two\nlines.wav", Path("out/two\nlines.wav"))


def test_results_never_replace_inputs_through_links(place):
    write("in/a.wav")
    Path("link").symlink_to("in")
    Path("files").mkdir()
    Path("files/a.wav").symlink_to("../in/a.wav")
    for given, output in (("in", "link"), ("link", "in"), ("files", "in"), ("link/a.wav", "in/a.wav")):
        with pytest.raises(DataError, match=r"would replace the input"):
            list_jobs([given], Path(output))
    # The link is replaced, not the file that it points to.
    assert len(list_jobs(["in"], Path("files"))) == 1


def test_two_files_with_one_stem_have_results_of_their_own(place):
    for name in ("in/a.wav", "in/a.flac", "in/a.mp3", "in/sub/a.wav"):
        write(name)
    assert {job.source.name: job.target.as_posix() for job in list_jobs(["in/a.wav", "in/a.flac"], Path("out"))} == {
        "a.wav": "out/a.wav", "a.flac": "out/a.flac",
    }  # fmt: skip
    targets = [job.target.as_posix() for job in list_jobs(["in"], Path("out"), "flac")]
    assert targets == ["out/a.flac.flac", "out/a.mp3.flac", "out/a.wav.flac", "out/sub/a.flac"]
    both = [job.target.as_posix() for job in list_jobs(["in/a.wav", "in/sub/a.wav"], Path("out"))]
    assert sorted(both) == ["out/a.wav.wav", "out/a.wav~2.wav"]


def test_output_folder_in_the_input_folder_is_found_through_links(place):
    write("real/in/a.wav"), write("real/in/enhanced/a.wav")
    Path("link").symlink_to("real/in")
    for given, output in (("link", "real/in/enhanced"), ("real/in", "link/enhanced")):
        assert [job.source.name for job in list_jobs([given], Path(output))] == ["a.wav"]


def test_file_system_may_ignore_case(place, monkeypatch):
    write("in/A.WAV")
    assert list_jobs(["in/A.WAV"], Path("in"))[0].target == Path("in/A.wav")  # another file, here
    real, exists = os.path.samefile, os.path.exists
    monkeypatch.setattr(os.path, "samefile", lambda one, two: real(one, str(two).replace("A.wav", "A.WAV")))
    monkeypatch.setattr(os.path, "exists", lambda path: exists(str(path).replace("A.wav", "A.WAV")))
    with pytest.raises(DataError, match="would replace the input"):
        list_jobs(["in/A.WAV"], Path("in"))
