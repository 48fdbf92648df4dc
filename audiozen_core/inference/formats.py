"""Determines the format of an output file from its extension, and the encoding from the input where possible."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import soundfile

from audiozen_core.errors import DataError

# The extensions of the supported output formats. Other formats are rare, or their length is not exact to the sample.
FORMATS = {"wav": "WAV", "flac": "FLAC", "aiff": "AIFF", "aif": "AIFF", "w64": "W64", "caf": "CAF", "ogg": "OGG"}

# The encodings that are kept, from coarse to fine. 8-bit and lossy encodings become 16 bits.
_KEPT = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")

# `check_format` asks libsndfile in each call, and a folder usually has one format.
_is_supported = functools.cache(soundfile.check_format)


class Format(NamedTuple):
    """A format and an encoding of samples, as libsndfile calls them."""

    name: str
    subtype: str

    @classmethod
    def of_file(cls, path: Path, source_subtype: str, wanted: str | None = None) -> Format:
        """Returns the format and encoding in which to write a file.

        Args:
            path: the file.
            source_subtype: the encoding of the input.
            wanted: the encoding to write; None uses the encoding of the input if the format supports it.

        Raises:
            DataError: the format is not supported, or does not support the wanted encoding.

        Example:
            >>> Format.of_file(Path("a.flac"), "FLOAT"), Format.of_file(Path("a.wav"), "PCM_U8")
            (Format(name='FLAC', subtype='PCM_24'), Format(name='WAV', subtype='PCM_16'))
        """
        ending = path.suffix.lower().removeprefix(".")
        if ending not in FORMATS:
            raise DataError(f"`{path}` has no supported file extension", remedy=f"use one of {', '.join(FORMATS)}")
        name = FORMATS[ending]
        if wanted is not None:
            if not soundfile.check_format(name, wanted.upper()):
                raise DataError(
                    f"a {name} file does not support the encoding {wanted}",
                    remedy=f"use one of {', '.join(soundfile.available_subtypes(name))}",
                )
            return cls(name, wanted.upper())
        if name == "OGG":
            return cls(name, "VORBIS")
        kept = source_subtype if source_subtype in _KEPT else "PCM_16"
        # The finest encoding that the format supports and that is not finer than the encoding of the input.
        fitting = [subtype for subtype in _KEPT[: _KEPT.index(kept) + 1] if _is_supported(name, subtype)]
        return cls(name, fitting[-1])
