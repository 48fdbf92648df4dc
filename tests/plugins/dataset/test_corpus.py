"""The corpus of recipes/mini_denoise matches its manifest and its licence."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import soundfile

MAX_BYTES = 12_000_000


@pytest.fixture
def rows(manifest):
    with manifest.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def values(rows, column, **wanted):
    return {row[column] for row in rows if all(row[key] == value for key, value in wanted.items())}


def test_manifest_lists_each_file_exactly_once(manifest, rows):
    on_disk = {path.relative_to(manifest.parent).as_posix() for path in manifest.parent.rglob("*.flac")}

    assert [row["file"] for row in rows] == list(dict.fromkeys(row["file"] for row in rows))
    assert {row["file"] for row in rows} == on_disk


def test_corpus_is_smaller_than_the_limit(manifest):
    assert sum(path.stat().st_size for path in manifest.parent.rglob("*") if path.is_file()) < MAX_BYTES


def test_every_file_has_the_expected_rate_channels_length_and_level(manifest, rows):
    for row in rows:
        wave, sr = soundfile.read(manifest.parent / row["file"])
        assert (sr, wave.ndim) == (16000, 1), row["file"]
        assert abs(len(wave) / sr - float(row["seconds"])) < 0.01, row["file"]
        assert -33 < 10 * np.log10(np.mean(wave**2)) < -24, row["file"]
        assert np.abs(wave).max() < 0.95, row["file"]
        assert abs(wave.mean()) < 1e-3, row["file"]


@pytest.mark.parametrize(("role", "column"), [("speech", "voice"), ("noise", "kind"), ("noise", "source")])
def test_splits_do_not_share_voices_noise_kinds_or_noise_recordings(rows, role, column):
    train, validate, test = (values(rows, column, role=role, split=split) for split in ("train", "validate", "test"))

    assert train
    assert validate
    assert test
    assert train.isdisjoint(validate)
    assert test.isdisjoint(train | validate)


def test_every_file_has_different_samples(manifest, rows):
    prints = {}
    for row in rows:
        wave, _ = soundfile.read(manifest.parent / row["file"], dtype="int16")
        assert prints.setdefault(wave.tobytes(), row["split"]) == row["split"], row["file"]
    assert len(prints) == len(rows)


def test_corpus_has_at_least_four_voices_and_four_kinds_of_test_noise(rows):
    assert len(values(rows, "voice", role="speech")) >= 4
    assert len(values(rows, "kind", role="noise", split="test")) >= 4


def test_licence_file_credits_every_voice_source_and_licence(manifest, rows):
    licence = (manifest.parent / "LICENSE").read_text(encoding="utf-8")

    for row in rows:
        assert row["licence"] in licence
        assert row["source"].split(":")[0] in licence
        assert f"{row['role']}/{row['voice']}" in licence
