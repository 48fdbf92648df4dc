"""The format of an output file: from its ending, with the encoding of the input where that makes sense."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import soundfile

from audiozen_core.errors import DataError

# The endings of the formats that are written. Others are rare, or have no length that is exact to the sample.
FORMATS = {"wav": "WAV", "flac": "FLAC", "aiff": "AIFF", "aif": "AIFF", "w64": "W64", "caf": "CAF", "ogg": "OGG"}

# The encodings that are kept, from coarse to fine. 8 bits and lossy encodings become 16 bits.
_KEPT = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")


class Format(NamedTuple):
    """A format and an encoding of samples, as libsndfile calls them."""

    name: str
    subtype: str

    @classmethod
    def of_file(cls, path: Path, given: str, wanted: str | None = None) -> Format:
        """Returns how a file is written.

        Args:
            path: the file.
            given: the encoding of the input.
            wanted: the encoding to write; None takes that of the input where the format has it.

        Raises:
            DataError: the format is not known, or can't have the wanted encoding.

        Example:
            >>> Format.of_file(Path("a.flac"), "FLOAT"), Format.of_file(Path("a.wav"), "PCM_U8")
            (Format(name='FLAC', subtype='PCM_24'), Format(name='WAV', subtype='PCM_16'))
        """
        ending = path.suffix.lower().removeprefix(".")
        if ending not in FORMATS:
            raise DataError(
                f"`{path}` has an ending of which no format is known", remedy=f"use one of {', '.join(FORMATS)}"
            )
        name = FORMATS[ending]
        if wanted is not None:
            if not soundfile.check_format(name, wanted.upper()):
                raise DataError(
                    f"a {name} file can't have samples of the encoding {wanted}",
                    remedy=f"use one of {', '.join(soundfile.available_subtypes(name))}",
                )
            return cls(name, wanted.upper())
        if name == "OGG":
            return cls(name, "VORBIS")
        kept = given if given in _KEPT else "PCM_16"
        # The finest encoding of the format that is not finer than that of the input.
        fitting = [one for one in _KEPT[: _KEPT.index(kept) + 1] if soundfile.check_format(name, one)]
        return cls(name, fitting[-1])
