"""Formats that tell whether a file is complete are read; the others are refused with the command that converts them."""

from __future__ import annotations

import io
import subprocess

import numpy as np
import pytest
import soundfile

from audiozen_core.audio.files import audio_info, read_audio
from audiozen_core.errors import DataError
from tests.core.audio.test_length import FRAMES, SR, check, encode, wave

__all__ = ["wave"]  # a fixture

REFUSED = {"AVR", "SVX", "MAT4", "MAT5", "MPC2K", "PAF", "PVF", "SDS", "IRCAM", "VOC", "WVE", "XI", "GSM610"}
READ = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3", "HTK"}


def outcome(path):
    """Reads a file. Returns its samples, and whether its end may be missing; or the error."""
    try:
        info = audio_info(path)
        return read_audio(path, sr=info.sr).numpy(), info.may_be_cut_off
    except DataError as error:
        return error


def files(folder, wave, form):
    """Writes a file of each subtype that libsndfile can encode."""
    for subtype in soundfile.available_subtypes(form):
        path = folder / f"{form}_{subtype}.{form.lower()}"
        try:
            content = encode(wave[SR : SR + 6037], form, subtype)
        except (soundfile.LibsndfileError, ValueError):
            continue
        if content:
            path.write_bytes(content)
            yield subtype, path


@pytest.mark.parametrize("form", sorted(READ))
def test_a_cut_file_is_never_taken_for_a_shorter_one(tmp_path, wave, form):
    """Each is refused, or known to have no mark of its end (Ogg), or as long as before."""
    count = 0
    for subtype, path in files(tmp_path, wave, form):
        content, whole = path.read_bytes(), outcome(path)
        if isinstance(whole, DataError):
            assert subtype == "GSM610" or subtype.startswith("DWVW")  # libsndfile can't seek in DWVW
            continue
        count += 1
        for cut in (1, 2, 4, 7, 16, 100, 1000, len(content) // 2, len(content) * 2 // 3):
            path.write_bytes(content[:-cut])
            found = outcome(path)
            assert isinstance(found, DataError) or found[1] or np.array_equal(found[0], whole[0]), (subtype, cut)
    assert count > 0


@pytest.mark.parametrize("form", sorted(set(soundfile.available_formats()) - {"RAW", "SD2"} - READ))
def test_format_that_does_not_tell_whether_a_file_is_complete_is_refused(tmp_path, wave, form):
    assert form in REFUSED
    for _, path in files(tmp_path, wave, form):
        error = outcome(path)
        assert error.message.endswith(f"has the format {form}, which does not show whether a file is complete")
        assert f"ffmpeg -i {path.name} converted/{path.stem}.wav or" in error.remedy
        assert f"sox {path.name} converted/{path.stem}.wav" in error.remedy


@pytest.mark.parametrize("form", ["WAV", "W64", "AIFF"])
def test_gsm_610_is_refused_in_any_container(tmp_path, wave, form):
    (tmp_path / "a").write_bytes(encode(wave, form, "GSM610"))
    assert "has the format GSM 6.10, which does not show" in outcome(tmp_path / "a").message


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW", "PCM_16", "PCM_24"])
def test_nist_sphere_file_of_any_coding_is_read_or_refused_if_it_was_cut(tmp_path, wave, subtype):
    content = encode(wave, "NIST", subtype)
    (tmp_path / "a.sph").write_bytes(content)
    check(tmp_path / "a.sph", soundfile.read(io.BytesIO(content), dtype="float32")[0])
    coding = content.replace(b"sample_n_bytes -s1 1", b"sample_n_bytes -i 1 ")
    (tmp_path / "a.sph").write_bytes(coding)
    assert audio_info(tmp_path / "a.sph").frames == FRAMES
    (tmp_path / "a.sph").write_bytes(content[:-4])
    with pytest.raises(DataError, match="truncated or damaged"):
        audio_info(tmp_path / "a.sph")
    (tmp_path / "a.sph").write_bytes(content.replace(b"sample_count", b"no_more_size"))
    with pytest.raises(DataError, match="NIST SPHERE without `sample_count`, which does not show"):
        audio_info(tmp_path / "a.sph")


@pytest.mark.parametrize("form", ["WAV", "AIFF"])
@pytest.mark.parametrize("cut", [None, -1000])
def test_id3_tag_before_a_header_that_must_come_first_is_refused_with_the_command_that_cuts_it(
    tmp_path, wave, form, cut
):
    path = tmp_path / "a b.wav"
    path.write_bytes(b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + encode(wave, form, "PCM_16")[:cut])
    with pytest.raises(DataError, match="begins with an ID3 tag") as error:
        read_audio(path, sr=SR)
    (tmp_path / "repaired").mkdir()
    subprocess.run(error.value.remedy.partition(": ")[2], shell=True, check=True, cwd=tmp_path)
    if cut is None:
        assert audio_info(tmp_path / "repaired" / "a b.wav").frames == FRAMES
