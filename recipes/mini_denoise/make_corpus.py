"""Creates the corpus of this recipe from Debian packages.

The corpus is committed in the same folder, so you don't have to run this script. It documents exactly how the corpus
was made, and reproduces the same files. It needs `dpkg-deb` and `ffmpeg`, and these packages in one folder:

    apt-get download lincity-ng-data asterisk-core-sounds-{en,es,fr,it,ru}-g722
    python recipes/mini_denoise/make_corpus.py .

Speech is decoded from G.722 (16 kHz). Noise is mixed to mono and resampled. Silence at both ends is cut off. Speech is
scaled to an active level of -26 dBFS, and noise to an RMS of -26 dBFS. Speech is rounded to 12 bits and noise to 11,
which halves the size of the files. The rounding error is 51 dB below the speech, which is far less than the error of
G.722, and 45 dB below the noise. Most noises were recorded at 11,025 Hz, so they have no frequencies above 5.5 kHz.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

SR = 16000
LEVEL = -26.0  # dBFS
STEP = {"speech": 16, "noise": 32}  # the rounding step of a 16-bit sample, for 12 and 11 bits
HEADROOM = 0.9  # the largest peak

# The same person speaks the Spanish and the English prompts, so both are in the same split.
VOICES = [
    # language, folder in the package, voice, split, licence, minutes to take
    ("en", "en_US_f_Allison", "allison", "train", "CC-BY-SA-3.0", 2.7),
    ("es", "es_MX_f_Allison", "allison", "train", "CC-BY-SA-3.0", 2.2),
    ("it", "it_IT_m_Carlo", "carlo", "train", "CC-BY-3.0", 3.1),
    ("fr", "fr_CA_f_June", "june", "validate", "CC-BY-SA-3.0", 1.4),
    ("ru", "ru_RU_f_IvrvoiceRU", "ivrvoice_ru", "test", "CC-BY-3.0", 1.9),
]
SENTENCE = (2.0, 9.0)  # seconds; shorter prompts are single words, longer ones repeat the same menus
# These prompts are not plain sentences: they are jokes, a fanfare, spelt words, or silence.
NOT_SPEECH = ("tt-", "confbridge-begin-glorious", "silence/", "digits/", "letters/", "phonetic/", "beep")

NOISES = {
    "train": {
        "blacksmith": "Blacksmith", "building_site": "Build MonumentConstruction", "commune": "Commune",
        "dirt_track": "DirtTrack", "farm": "Farm OrganicFarm", "fire": "Fire1 Fire2 Fire3 FireWasteland",
        "fire_station": "FireStation", "green": "Green", "harbour": "Harbor", "hospital": "Health",
        "industry": "Industry", "mill": "Mill", "monument": "Monument1 Monument2 Monument3", "ore_mine": "OreMine",
        "pottery": "Pottery", "power_station": "PowerCoal PowerSolar", "recycling": "Recycle",
        "residential": "Residential", "rocket": "Rocket", "shanty_town": "Shanty", "substation": "Substation",
        "tip": "Tip", "traffic": "Trafic", "university": "University",
    },
    "validate": {"coal_mine": "CoalMine", "park": "Parkland", "school": "School"},
    "test": {
        "market": "Market", "rail_train": "RailTrain", "sports_crowd": "SportsCroud", "water": "Water",
        "wind_mill": "WindMill",
    },
}  # fmt: skip
NOISE_LEFT_OUT = {
    "Tip2": "the same recording as CoalMine2",
    "Harbor3": "the same recording as Water2",
    "WindMillHTech1": "the same recording as PowerSolar1",
    "Green1": "mostly silence, and partly the same recording as ParklandPlane2",
    "Health5": "mostly silence",
    "ResidentialLow2": "mostly silence",
    "Harbor1": "a single tone (a horn)",
    "Harbor2": "a single tone (a horn)",
    "Health1": "a single tone (a beep)",
    "Health4": "a single tone (a siren)",
    "WindMillHTech2": "a single tone (a hum)",
}
NOISE_SECONDS = 1.5  # the shortest noise worth a loop


@dataclass(frozen=True)
class Entry:
    """One row of `manifest.csv`. For speech, `kind` is the language; for noise, it is the kind of noise."""

    file: str
    role: str
    voice: str
    kind: str
    split: str
    source: str
    licence: str
    seconds: str


def decode(path: Path, *options: str) -> np.ndarray:
    """Reads the mono wave of an audio file at 16 kHz, in [-1, 1], without its DC offset."""
    source = ["-f", "g722"] if path.suffix == ".g722" else []
    resample = f"aresample={SR}:filter_size=256:cutoff=0.98:internal_sample_fmt=dblp"
    command = ["ffmpeg", "-v", "error", *source, "-i", path, "-ac", "1", "-af", ",".join([*options, resample])]
    done = subprocess.run([*command, "-f", "f64le", "-"], stdout=subprocess.PIPE, check=True)
    wave = np.frombuffer(done.stdout, np.float64)
    return wave - wave.mean()


def frame_levels(wave: np.ndarray) -> np.ndarray:
    """Returns the level of each 10 ms of a wave in dBFS."""
    frames = wave[: len(wave) // 160 * 160].reshape(-1, 160)
    return 10 * np.log10((frames**2).mean(1) + 1e-10)


def trim(wave: np.ndarray, *, below: float, keep: float) -> np.ndarray:
    """Cuts off both ends where they are `below` dB under the loudest 10 ms, except for `keep` seconds."""
    levels = frame_levels(wave)
    loud = np.flatnonzero(levels > levels.max() - below) * 160
    return wave[max(0, loud[0] - int(keep * SR)) : loud[-1] + 160 + int(keep * SR)]


def set_level(wave: np.ndarray, *, active_within: float) -> np.ndarray:
    """Scales the frames within `active_within` dB of the loudest one to -26 dBFS, or less if a peak is too high."""
    levels = frame_levels(wave)
    active = levels[levels > levels.max() - active_within]
    gain = 10 ** ((LEVEL - 10 * np.log10((10 ** (active / 10)).mean())) / 20)
    return wave * min(gain, HEADROOM / np.abs(wave).max())


def write(path: Path, wave: np.ndarray, *, step: int) -> str:
    """Writes a rounded wave as FLAC, and returns its duration in seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = (np.round(wave * 32768 / step) * step).astype(np.int16)
    soundfile.write(path, samples, SR, subtype="PCM_16", compression_level=1.0)
    return f"{len(samples) / SR:.2f}"


def spread(waves: dict[str, np.ndarray], seconds: float) -> list[str]:
    """Chooses waves of `seconds` in total, and returns their names.

    The names are spread evenly, because neighbours are often variants of the same sentence.
    """
    names = sorted(waves)
    total = sum(map(len, waves.values())) / SR
    due = np.cumsum([len(waves[name]) / SR for name in names]) * min(1.0, seconds / total)
    taken: list[str] = []
    have = 0.0
    for name, wanted in zip(names, due, strict=True):
        length = len(waves[name]) / SR
        if have + length / 2 <= wanted:
            taken.append(name)
            have += length
    return taken


def make_speech(package: Path, out: Path, voice_row: tuple[str, str, str, str, str, float]) -> list[Entry]:
    """Writes the chosen sentences of one language."""
    language, folder, voice, split, licence, minutes = voice_row
    root = package / "usr/share/asterisk/sounds" / folder
    waves = {}
    for path in sorted(root.rglob("*.g722")):
        name = path.relative_to(root).with_suffix("").as_posix()
        if path.stat().st_size < SENTENCE[0] * SR / 2 or name.startswith(NOT_SPEECH):
            continue
        wave = trim(decode(path), below=45, keep=0.1)
        if SENTENCE[0] <= len(wave) / SR <= SENTENCE[1]:
            waves[name] = set_level(wave, active_within=30)
    entries = []
    for name in spread(waves, minutes * 60):
        file = f"speech/{voice}/{language}_{name.replace('/', '_')}.flac"
        seconds = write(out / file, waves[name], step=STEP["speech"])
        source = f"asterisk-core-sounds-{language}-g722: {folder}/{name}.g722"
        entries.append(Entry(file, "speech", voice, language, split, source, licence, seconds))
    return entries


def make_noise(package: Path, out: Path) -> list[Entry]:
    """Writes every noise that is neither left out nor too short."""
    root = package / "usr/share/games/lincity-ng/sounds"
    entries = []
    for split, kinds in NOISES.items():
        for kind, prefixes in kinds.items():
            for path in sorted({path for prefix in prefixes.split() for path in root.glob(f"{prefix}*.wav")}):
                if path.stem in NOISE_LEFT_OUT:
                    continue
                wave = trim(decode(path, "highpass=f=40"), below=50, keep=0.0)
                if len(wave) < NOISE_SECONDS * SR:
                    continue
                file = f"noise/{kind}/{path.stem}.flac"
                seconds = write(out / file, set_level(wave, active_within=100), step=STEP["noise"])
                source = f"lincity-ng-data: sounds/{path.name}"
                entries.append(Entry(file, "noise", "", kind, split, source, "CC-BY-SA-2.0", seconds))
    return entries


def unpack(debs: Path, package: str, scratch: Path) -> Path:
    """Unpacks a package, and returns the folder with its files."""
    found = sorted(debs.glob(f"{package}_*.deb"))
    if not found:
        sys.exit(f"no {package}_*.deb in {debs}; get it with: apt-get download {package}")
    subprocess.run(["dpkg-deb", "-x", found[-1], scratch / package], check=True)
    return scratch / package


def main() -> None:
    """Reads the command line and creates the corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("debs", type=Path, help="the folder with the .deb files")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "corpus", help="default: beside this script"
    )
    args = parser.parse_args()
    for tool in ("dpkg-deb", "ffmpeg"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is not installed")
    entries: list[Entry] = []
    with tempfile.TemporaryDirectory() as scratch:
        for row in VOICES:
            package = unpack(args.debs, f"asterisk-core-sounds-{row[0]}-g722", Path(scratch))
            entries += make_speech(package, args.out, row)
        entries += make_noise(unpack(args.debs, "lincity-ng-data", Path(scratch)), args.out)
    with (args.out / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(Entry.__dataclass_fields__)
        writer.writerows([list(vars(entry).values()) for entry in entries])
    for split in ("train", "validate", "test"):
        for role in ("speech", "noise"):
            rows = [entry for entry in entries if (entry.split, entry.role) == (split, role)]
            minutes = sum(float(entry.seconds) for entry in rows) / 60
            print(f"{split:9} {role:7} {len(rows):4} files {minutes:6.2f} minutes")


if __name__ == "__main__":
    main()
