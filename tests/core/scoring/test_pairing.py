"""Files are paired by their relative paths, by the endings of a test, or by their names alone."""

import pytest

from audiozen_core.errors import DataError, RunError
from audiozen_core.scoring.pairing import pair_files


@pytest.fixture
def tree(tmp_path):
    """Returns a function that makes empty files."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        return tmp_path

    return make


def paths(pairing, root):
    return {
        file.id: {kind: path.relative_to(root).as_posix() for kind, path in file.paths.items()}
        for file in pairing.files
    }


def test_files_are_paired_by_relative_path_without_the_ending(tree):
    root = tree("e/x/1.wav", "e/y/1.wav", "c/x/1.flac", "c/y/1.wav")
    assert paths(pair_files(root / "e", {"clean": root / "c", "noisy": None}), root) == {
        "x/1": {"enhanced": "e/x/1.wav", "clean": "c/x/1.flac"},
        "y/1": {"enhanced": "e/y/1.wav", "clean": "c/y/1.wav"},
    }


def test_endings_of_a_test_are_paired_in_one_folder_and_with_other_folders(tree):
    kinds = ("enhanced", "clean", "noisy")
    root = tree("r/scores.csv", "r/scores.json", *(f"r/audio/{name}_{kind}.wav" for name in "ab" for kind in kinds))
    pairing = pair_files(root / "r", {"clean": None})
    assert paths(pairing, root)["a"] == {
        "enhanced": "r/audio/a_enhanced.wav", "clean": "r/audio/a_clean.wav", "noisy": "r/audio/a_noisy.wav"
    }  # fmt: skip
    tree("c/a.wav", "c/b_clean.wav")
    assert paths(pair_files(root / "r/audio", {"clean": root / "c"}), root)["b"]["clean"] == "c/b_clean.wav"


def test_folders_of_different_structure_are_paired_by_name_and_that_is_reported(tree):
    root = tree("e/1.wav", "e/2.wav", "c/p232/1.wav", "c/p257/2.wav")
    pairing = pair_files(root / "e", {"clean": root / "c"})
    assert paths(pairing, root)["2"]["clean"] == "c/p257/2.wav"
    assert "paired by name" in pairing.findings[0]


def test_name_in_several_folders_is_not_guessed(tree):
    root = tree("e/1.wav", "c/x/1.wav", "c/y/1.wav")
    with pytest.raises(DataError, match="1 names exist in several subfolders: 1"):
        pair_files(root / "e", {"clean": root / "c"})


def test_names_are_not_used_if_some_relative_paths_fit(tree):
    """Otherwise the missing file of one speaker would be replaced by that of another one."""
    root = tree("e/x/1.wav", "e/x/2.wav", "c/x/1.wav", "c/y/2.wav")
    with pytest.raises(DataError) as caught:
        pair_files(root / "e", {"clean": root / "c"})
    assert "1 of 2 files have no clean file" in caught.value.notes[0]
    assert caught.value.notes[0].endswith("x/2")
    assert caught.value.notes[1].endswith("y/2")


def test_missing_files_of_both_sides_are_listed_or_left_out(tree):
    root = tree("e/1.wav", "e/2.wav", "c/1.wav", "c/3.wav")
    with pytest.raises(DataError) as caught:
        pair_files(root / "e", {"clean": root / "c"})
    assert len(caught.value.notes) == 2
    assert "--allow-missing" in caught.value.remedy
    pairing = pair_files(root / "e", {"clean": root / "c"}, allow_missing=True)
    assert [file.id for file in pairing.files] == ["1"]
    assert len(pairing.findings) == 2


def test_nothing_in_common_is_an_error_even_if_files_may_be_missing(tree):
    root = tree("e/1.wav", "c/2.wav")
    with pytest.raises(DataError, match="have no partner file"):
        pair_files(root / "e", {"clean": root / "c"}, allow_missing=True)


@pytest.mark.parametrize("folder", ["e", "c"])
def test_two_files_of_one_stem_are_refused(tree, folder):
    root = tree("e/a.wav", "c/a.wav", f"{folder}/a.flac")
    with pytest.raises(DataError, match=r"several files in .* differ only in their extensions: a.flac and a.wav"):
        pair_files(root / "e", {"clean": root / "c"})


def test_partners_within_the_folder_are_not_rated(tree):
    root = tree("a.wav", "clean/a.wav")
    assert paths(pair_files(root, {"clean": root / "clean"}), root) == {
        "a": {"enhanced": "a.wav", "clean": "clean/a.wav"}
    }


def test_noisy_files_can_be_rated_themselves(tree):
    root = tree("n/a.wav", "c/a.wav")
    pairing = pair_files(root / "n", {"clean": root / "c", "noisy": root / "n"})
    assert paths(pairing, root)["a"] == {"enhanced": "n/a.wav", "clean": "c/a.wav", "noisy": "n/a.wav"}


def test_thousands_of_files_are_paired_at_once(tree):
    root = tree(*(f"{kind}/{index // 50}/{index}.wav" for kind in "ec" for index in range(1000)))
    assert len(pair_files(root / "e", {"clean": root / "c"}).files) == 1000


def test_run_without_a_test_is_refused(tree):
    root = tree("exp/checkpoints/x", "exp/a.wav")
    with pytest.raises(RunError, match="has no test"):
        pair_files(root / "exp", {})
