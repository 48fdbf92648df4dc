from __future__ import annotations

import pytest
import torch

from audiozen.dataset import AudioFolder, pad_collate
from audiozen_core.audio.files import read_audio
from audiozen_core.errors import DataError


def test_ids_are_the_relative_paths_of_all_files_in_the_folder(write, tmp_path):
    paths = [write(name) for name in ("in/b.wav", "in/deep/er/a.flac", "in/b.x.wav")]

    data = AudioFolder(tmp_path / "in")

    assert [file.id for file in data.files] == ["b", "b.x", "deep/er/a"]
    assert torch.equal(data[2]["noisy"], read_audio(paths[1], sr=16000))
    assert data[0].keys() == {"id", "noisy", "sr"}
    assert pad_collate([data[0], data[2]])["id"] == ["b", "deep/er/a"]


def test_ids_keep_the_extension_if_files_differ_only_in_it(write, tmp_path):
    for name in ("in/a.wav", "in/a.flac", "in/b.wav"):
        write(name)

    assert [file.id for file in AudioFolder(tmp_path / "in").files] == ["a.flac", "a.wav", "b"]


def test_a_list_of_files_keeps_its_order(write):
    one, two = write("x/one.wav"), write("y/two.wav")

    assert [file.id for file in AudioFolder(files=[two, str(one)]).files] == ["y/two", "x/one"]
    assert [file.id for file in AudioFolder(files=[two]).files] == ["two"]


def test_ids_never_point_outside_the_folder_of_the_results(write, tmp_path, monkeypatch):
    write("x/one.wav")
    write("two.wav")
    monkeypatch.chdir(tmp_path / "x")

    for data in (AudioFolder(files=["../two.wav", "one.wav"]), AudioFolder("..")):
        assert sorted(file.id for file in data.files) == ["two", "x/one"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({}, "neither `folder` nor `files` is given"),
        ({"folder": "in", "files": ["in/a.wav"]}, "both `folder` and `files` are given"),
        ({"folder": "empty"}, "the folder `empty` has no audio files"),
        ({"folder": "nowhere"}, "the folder `nowhere` does not exist"),
        ({"folder": "in/a.wav"}, r"`in/a\.wav` is not a folder"),
        ({"files": []}, "`files` is an empty list"),
        ({"files": ["in/a.wav", "in/no.wav"]}, r"the audio file `in/no\.wav` does not exist"),
        ({"files": ["in/a.wav", "in/../in/a.wav"]}, r"`files` contains `a\.wav` twice"),
        ({"folder": "in", "sr": 8000}, r"a\.wav` has a sample rate of 16000 Hz"),
    ],
)
def test_building_with_invalid_arguments_or_files_is_an_error(arguments, what, write, tmp_path, monkeypatch):
    write("in/a.wav")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(DataError, match=what):
        AudioFolder(**arguments)
