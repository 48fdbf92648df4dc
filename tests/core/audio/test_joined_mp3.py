"""MP3 files that were joined byte by byte, with the tags that programs write at the end of a file."""

import struct
import subprocess

import numpy as np
import pytest

from audiozen_core.audio.files import audio_info, read_audio
from audiozen_core.errors import DataError
from tests.core.audio.test_length import FRAMES, SR, check, encode, without_xing


@pytest.fixture(scope="module")
def mp3() -> bytes:
    return encode(np.random.default_rng(0).uniform(-0.3, 0.3, FRAMES), "MP3")


def ape(items: bytes, header: bool = True) -> bytes:
    head, foot = (
        b"APETAGEX" + struct.pack("<IIII8x", 2000, len(items) + 32, 1, flags)
        for flags in ((0xA0000000, 0x80000000) if header else (0, 0))
    )
    return (head if header else b"") + items + foot


def lyrics(words: bytes) -> bytes:
    return b"LYRICSBEGIN" + words + b"%06dLYRICS200" % (11 + len(words))


FALSE_FRAME = bytes.fromhex("fff340c4") * 20  # what looks like the header of a frame, as a picture may have it
ID3V1 = b"TAG" + FALSE_FRAME + bytes(45)
TAGS = {
    "ID3v1": ID3V1,
    "TAG+": b"TAG+".ljust(227, b"x") + b"TAG".ljust(128, b"x"),
    "ID3v1, ID3v2": ID3V1 + b"ID3\x04\0\0\0\0\x01\x00" + bytes(128),
    "APE": ape(b"x" * 300 + FALSE_FRAME),
    "long APE, ID3v1": ape(b"x" * 100_000) + ID3V1,
}
UNKNOWN_TAGS = {
    "Lyrics3": lyrics(b"a" * 300),
    "long Lyrics3, ID3v1": lyrics(b"a" * 20_000) + ID3V1,
    "Lyrics3, version 1": b"LYRICSBEGIN" + b"a" * 4000 + b"LYRICSEND" + ID3V1,
    "APE without a header": ape(b"x" * 3000 + FALSE_FRAME, header=False),
}


@pytest.mark.parametrize("xing", [True, False], ids=["Xing", "plain"])
@pytest.mark.parametrize("tag", TAGS.values(), ids=TAGS)
def test_joined_mp3_files_with_a_tag_between_them_are_read_to_the_end_of_the_last(tmp_path, mp3, tag, xing):
    part = mp3 if xing else without_xing(mp3)
    for name, content in (("joined", part + part), ("tagged", part + tag + part + tag), ("end", part + part + tag)):
        (tmp_path / name).write_bytes(content)
    joined = read_audio(tmp_path / "joined", sr=SR).numpy()

    assert len(joined) > 2 * FRAMES
    check(tmp_path / "tagged", joined, tolerance=1e-4)
    check(tmp_path / "end", joined, tolerance=1e-4)


@pytest.mark.parametrize("tag", UNKNOWN_TAGS.values(), ids=UNKNOWN_TAGS)
def test_tag_at_which_the_decoder_stops_is_an_error_only_between_joined_mp3_files(tmp_path, mp3, tag):
    for name, content in (("plain.mp3", mp3), ("end.mp3", mp3 + tag), ("joined.mp3", mp3 + tag + mp3)):
        (tmp_path / name).write_bytes(content)

    check(tmp_path / "end.mp3", read_audio(tmp_path / "plain.mp3", sr=SR).numpy())
    with pytest.raises(DataError, match=rf"second one begins at byte {len(mp3 + tag)}\n") as error:
        audio_info(tmp_path / "joined.mp3")
    subprocess.run(error.value.remedy.removeprefix("split it: "), shell=True, cwd=tmp_path, check=True)
    assert (tmp_path / "joined_2.mp3").read_bytes() == mp3
