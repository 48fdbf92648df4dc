"""Audio beyond full scale is measured as it is; each file that had to be clipped when it was written is named."""

from __future__ import annotations

import re

import pytest
import soundfile


def make_louder(project, gain):
    for path in (project / "data").rglob("*.wav"):
        wave, rate = soundfile.read(path)
        soundfile.write(path, gain * wave, rate, subtype="FLOAT")


@pytest.mark.parametrize(("gain", "is_clipped"), [(10, True), (1, False)])
def test_each_clipped_file_is_named_in_every_mode(project, audiozen, gain, is_clipped):
    make_louder(project, gain)
    assert audiozen("run", "tiny.toml").code == 0

    for mode, kinds in (("test", ("_noisy", "_clean", "_enhanced")), ("predict", ("",))):
        done = audiozen("run", "tiny.toml", "--mode", mode)
        assert done.code == 0, done.err
        named = set(re.findall(r"samples of `[^`]*/(\S+?)\.wav` are louder than full scale and were clipped", done.err))
        # The result folder gets its name at the end, so the log names the files within it.
        assert ".incomplete" not in done.err
        folders = set(re.findall(r"samples of `([^`]*)/\S+?\.wav`", done.err))
        assert folders == ({"0/audio" if mode == "test" else "0"} if is_clipped else set())
        expected = {f"clip_{index}{kind}" for index in range(4) for kind in kinds if kind in ("_noisy", "_clean")}
        assert expected <= named if is_clipped else not named
        if is_clipped and mode == "predict":
            assert named
            assert named == {
                path.stem
                for path in (project / "exp").rglob("clip_?.wav")
                if abs(soundfile.read(path)[0]).max() > 0.9999
            }
