"""`audiozen listen`: makes the page of a blinded listening test, and the key of the page."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiozen_core.audio.files import audio_info
from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import DataError, RunError
from audiozen_core.listening.anchors import LOW_PASSES, NOISY, REFERENCE, check_anchors, default_anchors
from audiozen_core.listening.answer_key import (
    CONTROL,
    NOISY_ROLE,
    SYSTEM,
    AnswerKey,
    KeyedSystem,
    Stimulus,
    key_path,
    read_key,
)
from audiozen_core.listening.material import Material, differing_recordings, read_material
from audiozen_core.listening.methods import METHODS, MUSHRA, Method, MethodName
from audiozen_core.listening.sources import Named, SystemRecordings, find_recordings
from audiozen_core.pages.page import render_page
from audiozen_core.storage.atomic import make_folder, write_whole

ASSETS = Path(__file__).parent / "assets"

FILES = 10
SECONDS = 10.0
TITLE = "Listening test"

_ADVISED = 12  # the maximum number of recordings in a trial that BS.1534-3 recommends
_MOST = 26  # each recording of a trial has a letter as its name
_LONG = 30  # minutes, the maximum duration without a break
_PRACTICE = 3  # the number of recordings in the training trial of P.835


@dataclass(frozen=True, slots=True)
class ListeningTest:
    """The page of a listening test that was made.

    Attributes:
        page: the HTML file.
        key: the key file, which maps recordings to systems.
        id: the ID of the page, which is also in the key and in all ratings.
        method: the method.
        files: the IDs of the files in the test, without the file of the training trial.
        systems: the names of the systems and anchors.
        minutes: the approximate duration of the test for a listener.
        size: the size of the page in bytes.
        notes: warnings and remarks for the user.
    """

    page: Path
    key: Path
    id: str
    method: MethodName
    files: tuple[str, ...]
    systems: tuple[str, ...]
    minutes: int
    size: int
    notes: tuple[str, ...]


def listen(
    systems: Named,
    output: str | Path,
    *,
    method: MethodName = "mushra",
    clean: str | Path | None = None,
    noisy: str | Path | None = None,
    anchors: Sequence[str] | None = None,
    files: int = FILES,
    seconds: float = SECONDS,
    seed: int = 0,
    same_loudness: bool = False,
    checkpoint: str | None = None,
    title: str = TITLE,
) -> ListeningTest:
    """Makes the page of a blinded listening test from the recordings of systems, and the key of the page.

    The page is a single file that needs no network. The names of systems and files are only in the key, not in the
    page. The same recordings and arguments make the same page and the same key. docs/listening_tests.md explains both
    methods.

    Args:
        systems: runs, result folders of tests or folders of audio, as for `compare`.
        output: the page; its name ends in `.html`. The key of `page.html` is `page.key.json`.
        method: `mushra` (ITU-R BS.1534: all systems are compared with a reference) or `p835` (ITU-T P.835: one
            recording at a time, which is rated for its signal, its background and overall).
        clean: the folder of the clean recordings; None for the clean recordings of the tests.
        noisy: the folder of the noisy recordings; None for the noisy recordings of the tests.
        anchors: any of `noisy`, `lowpass3500` and `lowpass7000`, or `("none",)`; None for the default anchors.
        files: the number of files in the test. They are drawn at random from the files that all systems have.
        seconds: the maximum duration of a recording. Longer files are cut to their loudest part.
        seed: the seed with which the files are drawn.
        same_loudness: whether to scale all recordings of a file to the same root mean square.
        checkpoint: for systems that are runs: the checkpoint whose test is used; None for the latest test.
        title: the title that listeners see.

    Raises:
        RunError: a run has no audio, an anchor is not possible, or the output would replace the key of another page.
        DataError: recordings can't be read, or the systems have no file in common.
    """
    page, chosen_method = _page(Path(output)), METHODS[method]
    recordings = find_recordings(systems, clean=clean, noisy=noisy, checkpoint=checkpoint)
    if not recordings.clean and chosen_method is MUSHRA:
        raise RunError(
            "MUSHRA needs clean recordings as its reference, but these systems have none",
            remedy="give their folder with `--clean`, or use `--method p835`, which needs no reference",
        )
    sr = min(audio_info(path).sr for path in recordings.clean.values()) if recordings.clean else 0
    has_reference = bool(recordings.clean) and chosen_method is MUSHRA
    if anchors is None:
        anchor_names = default_anchors(noisy=bool(recordings.noisy), reference=has_reference, sr=sr)
    else:
        anchor_names = check_anchors(anchors, noisy=bool(recordings.noisy), reference=bool(recordings.clean), sr=sr)
    rows = _systems(recordings, anchor_names)
    _check_systems(rows, chosen_method)
    materials, notes = _materials(recordings, anchor_names, files, seconds, seed, same_loudness)
    settings = {
        "files": files,
        "seconds": seconds,
        "seed": seed,
        "anchors": list(anchor_names),
        "same_loudness": same_loudness,
    }
    test = _Test(chosen_method, title, rows, materials, settings)
    key = AnswerKey(
        test.id, chosen_method, title, rows, test.stimuli(recordings), {**settings, "begins": test.begins()}
    )
    key_file = key_path(page)
    _check_key_path(key_file, key)
    content = render_page("listen.html", [ASSETS], title=title, test=test.to_json(), method=chosen_method)
    minutes = test.minutes
    notes = [*recordings.notes, *notes, *_advice(rows, chosen_method, minutes, seconds)]
    make_folder(page.parent)
    # The key is written first, because ratings from a page without a key would be useless.
    write_whole(key_file, json.dumps(key.to_json(), indent=1, ensure_ascii=False) + "\n")
    size = write_whole(page, content).size
    names = tuple(row.name for row in rows)
    ids = tuple(material.id for material in materials[test.training :])
    return ListeningTest(page, key_file, key.page, method, ids, names, minutes, size, tuple(notes))


def _page(output: Path) -> Path:
    if output.suffix.lower() not in (".html", ".htm"):
        raise RunError(f"the page `{output}` must end in `.html`", remedy=f"name it `{output.with_suffix('.html')}`")
    return output


def _systems(recordings: SystemRecordings, anchors: Sequence[str]) -> tuple[KeyedSystem, ...]:
    rows = [KeyedSystem(system.name, SYSTEM, system.source) for system in recordings.systems]
    rows += [KeyedSystem(NOISY, NOISY_ROLE, "the noisy recordings")] * (NOISY in anchors)
    rows += [
        KeyedSystem(name, CONTROL, f"the reference below {LOW_PASSES[name].cutoff} Hz")
        for name in anchors
        if name in LOW_PASSES
    ]
    rows += [KeyedSystem(REFERENCE, CONTROL, "the clean recordings")] * bool(recordings.clean)
    return tuple(rows)


def _check_systems(rows: Sequence[KeyedSystem], method: Method) -> None:
    if len(rows) > _MOST:
        raise RunError(
            f"{len(rows)} recordings in a trial are too many for a listener",
            remedy=f"compare at most {_ADVISED} systems in one test, preferably 5",
        )
    if len(rows) < 2:
        raise RunError(
            f"a {method.label} test needs more than one system",
            remedy="add another system, or give the folder of the noisy or of the clean recordings",
        )


def _materials(
    recordings: SystemRecordings, anchors: Sequence[str], files: int, seconds: float, seed: int, same_loudness: bool
) -> tuple[list[Material], list[str]]:
    """Draws and reads the files. The file of the training trial comes first. Files that can't be read are replaced."""
    order = random.Random(seed).sample(recordings.ids, len(recordings.ids))
    guide = REFERENCE if recordings.clean else recordings.systems[0].name if not recordings.noisy else NOISY
    materials: list[Material] = []
    findings: dict[str, list[str]] = {}
    left_out: dict[str, str] = {}
    for name in order:
        if len(materials) > files:
            break
        paths = {system.name: system.files[name] for system in recordings.systems}
        if recordings.noisy and (NOISY in anchors or guide == NOISY):
            paths[NOISY] = recordings.noisy[name]
        if recordings.clean:
            paths[REFERENCE] = recordings.clean[name]
        try:
            material = read_material(
                name,
                paths,
                guide=guide,
                seconds=seconds,
                low_passes=[anchor for anchor in anchors if anchor in LOW_PASSES],
                same_loudness=same_loudness,
            )
        except DataError as error:
            left_out[name] = error.message
            continue
        for text in (*material.findings, *_different_inputs(recordings, material)):
            findings.setdefault(text, []).append(name)
        if material.gain < 1:
            text = "all recordings of the file are attenuated to prevent clipping"
            findings.setdefault(text, []).append(name)
        materials.append(material)
    notes = [f"warning: {text}: {listed(names, most=5)}" for text, names in findings.items()]
    if left_out:
        reasons = "; ".join(f"{name} ({reason})" for name, reason in list(left_out.items())[:3])
        notes.append(f"warning: {len(left_out)} files can't be used, so other files were drawn: {reasons}")
    if not materials:
        raise DataError("no file can be used in the test", notes=notes, remedy="check the recordings")
    if len(materials) <= files:
        notes.append(f"only {len(materials)} of {files} files are available, and one is also used for the training")
        materials.insert(0, materials[-1])
    else:
        materials.insert(0, materials.pop())
    return materials, notes


def _different_inputs(recordings: SystemRecordings, material: Material) -> Iterable[str]:
    """Yields warnings about systems that were tested with different recordings under the same ID."""
    for kind in ("clean", "noisy"):
        having = [system for system in recordings.systems if material.id in getattr(system, kind)]
        paths = [getattr(system, kind)[material.id] for system in having]
        if len(set(paths)) > 1:
            for index in differing_recordings(paths, material.begin, material.seconds):
                yield f"{having[index].name} and {having[0].name} were tested with different {kind} recordings"


def _advice(rows: Sequence[KeyedSystem], method: Method, minutes: int, seconds: float) -> Iterable[str]:
    if method is MUSHRA and len(rows) > _ADVISED:
        yield f"warning: a trial has {len(rows)} recordings, but BS.1534 recommends at most {_ADVISED}"
    if method is MUSHRA and seconds > 12:
        yield f"warning: {seconds:g} seconds are hard to remember; BS.1534 recommends at most 12"
    if minutes > _LONG:
        yield (
            f"warning: the test takes about {minutes} minutes, which is long for one session; reduce `--files` or "
            "`--seconds`, or tell listeners that they can stop and continue later"
        )


def _check_key_path(path: Path, key: AnswerKey) -> None:
    """Raises an error if the key of another page would be replaced, because its ratings would become useless."""
    if path.exists() and read_key(path).page != key.page:
        raise RunError(
            f"`{path}` is the key of another page, whose ratings can't be read without this key",
            remedy="give the new page another name, or delete the old page and its key",
        )


class _Test:
    """The content of the page. All names in it are hashes, so the page does not reveal systems or files."""

    training = 1

    def __init__(
        self,
        method: Method,
        title: str,
        rows: Sequence[KeyedSystem],
        materials: Sequence[Material],
        settings: dict[str, Any],
    ) -> None:
        self.method, self.title, self.materials = method, title, materials
        self.names = [row.name for row in rows]
        content = hashlib.sha256()
        parts = [(material.id, material.begin, material.sr) for material in materials]
        content.update(json.dumps([method.name, title, settings, self.names, parts]).encode())
        for material in materials:
            for name in self.names:
                content.update(material.waves[name].tobytes())
        self.id = content.hexdigest()[:12]

    def token(self, index: int, name: str) -> str:
        """Returns the hash that names a recording of a trial in the page. The name "" gives the hash of the trial."""
        return hashlib.sha256(f"{self.id}/{index}/{name}".encode()).hexdigest()[:10]

    def trial_systems(self, index: int) -> list[str]:
        """Returns the systems of a trial. The training trial of P.835 has at most `_PRACTICE` systems."""
        if index or self.method is MUSHRA:
            return self.names
        names = [name for name in (REFERENCE, NOISY, *self.names) if name in self.names]
        return list(dict.fromkeys(names))[:_PRACTICE]

    @property
    def minutes(self) -> int:
        """The estimated duration in minutes. Each recording is heard twice in MUSHRA, and three times in P.835."""
        total = 120.0
        for index, material in enumerate(self.materials):
            count = len(self.trial_systems(index))
            if self.method is MUSHRA:
                total += count * (2 * material.seconds + 5) + 2 * material.seconds + 5
            else:
                total += count * (3 * (material.seconds + 3) + 2)
        return math.ceil(total / 60)

    def stimuli(self, recordings: SystemRecordings) -> dict[str, Stimulus]:
        """Returns the rated recordings, sorted by their names in the page."""
        paths = {system.name: system.files for system in recordings.systems}
        paths |= {NOISY: recordings.noisy, REFERENCE: recordings.clean}
        stimuli = {
            self.token(index, name): Stimulus(
                self.token(index, ""), material.id, name, str(paths.get(name, {}).get(material.id, ""))
            )
            for index, material in enumerate(self.materials)
            if index >= self.training
            for name in self.trial_systems(index)
        }
        return dict(sorted(stimuli.items()))

    def begins(self) -> dict[str, float]:
        """Returns the start of the used part of each file, in seconds."""
        return {material.id: round(material.begin, 3) for material in self.materials}

    def to_json(self) -> dict[str, Any]:
        """Returns the data of the page."""
        trials: list[dict[str, Any]] = []
        audio: dict[str, str] = {}
        for index, material in enumerate(self.materials):
            tokens = {name: self.token(index, name) for name in self.trial_systems(index)}
            audio |= {token: _flac(material.waves[name], material.sr) for name, token in tokens.items()}
            reference = None
            if self.method is MUSHRA:
                reference = self.token(index, "\0reference")
                audio[reference] = _flac(material.waves[REFERENCE], material.sr)
            trials.append(
                {
                    "id": self.token(index, ""),
                    "training": index < self.training,
                    "seconds": material.seconds,
                    "reference": reference,
                    # The tokens are sorted, because the original order would reveal the systems.
                    "stimuli": sorted(tokens.values()),
                }
            )
        volume_system = next(name for name in (REFERENCE, NOISY, self.names[0]) if name in self.trial_systems(0))
        return {
            "page": self.id,
            "method": self.method.name,
            "title": self.title,
            "minutes": self.minutes,
            "scales": [scale.to_json() for scale in self.method.scales],
            "volume": self.token(0, volume_system),
            "trials": trials,
            "audio": dict(sorted(audio.items())),
        }


def _flac(samples: NDArray[np.int16], sr: int) -> str:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, sr, format="FLAC", subtype="PCM_16")
    return base64.b64encode(file.getvalue()).decode()
