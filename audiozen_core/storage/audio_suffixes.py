"""The file name extensions of audio files."""

from __future__ import annotations

AUDIO_SUFFIXES = (
    ".8svx", ".aif", ".aifc", ".aiff", ".amb", ".au", ".avr", ".bwf", ".caf", ".fap", ".flac", ".htk", ".iff", ".ircam",
    ".m2a", ".mp1", ".mp2", ".mp3", ".mpa", ".mpga", ".nist", ".oga", ".ogg", ".opus", ".paf", ".pvf", ".rf64", ".sds",
    ".sf", ".snd", ".sph", ".svx", ".voc", ".w64", ".wav", ".wave", ".wavex", ".wve", ".xi",
)  # fmt: skip
"""The extensions that `list_audio` looks for, in upper or lower case: all formats that libsndfile recognises."""
