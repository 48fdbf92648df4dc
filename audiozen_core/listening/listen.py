"""Makes the page of a blinded listening test, and its key."""

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
from audiozen_core.listening.key import CONTROL, NOISY_ROLE, SYSTEM, Key, KeyedSystem, Stimulus, key_path, read_key
from audiozen_core.listening.material import Material, differing, read_material
from audiozen_core.listening.methods import METHODS, MUSHRA, Method, MethodName
from audiozen_core.listening.sources import Named, Recordings, find_recordings
from audiozen_core.pages.page import render_page
from audiozen_core.storage.atomic import make_folder, write_whole

ASSETS = Path(__file__).parent / "assets"

FILES = 10
SECONDS = 10.0
TITLE = "Listening test"

_ADVISED = 12  # BS.1534-3: the most recordings of a trial
_MOST = 26  # a recording is called by a letter
_LONG = 30  # minutes, after which listeners need a break
_PRACTICE = 3  # recordings in the training of P.835


@dataclass(frozen=True, slots=True)
class ListeningTest:
    """A page that was made.

    Attributes:
        page: the HTML file.
        key: the file that says which system each recording is.
        id: the ID of the page, which the key and all ratings have.
        method: the method.
        files: the IDs of the files that are heard.
        systems: the names of the systems and anchors.
        minutes: about how long a listener needs.
        size: the size of the page in bytes.
        notes: what is remarkable, in words.
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
    """Makes the page of a blinded listening test from the recordings of systems, and its key beside it.

    The page is one file that needs no network. It has neither the names of the systems nor those of the files: these
    are in the key only. The same recordings and arguments make the same page and the same key.
    docs/listening_tests.md explains both methods.

    Args:
        systems: runs, result folders of tests or folders of audio, as for `compare`.
        output: the page; its name ends in `.html`. The key of `page.html` is `page.key.json`.
        method: `mushra` (ITU-R BS.1534: all systems beside a reference) or `p835` (ITU-T P.835: one recording at a
            time, rated for its signal, its background and as a whole).
        clean: the folder of the clean recordings; None for those of the tests.
        noisy: the folder of the noisy recordings; None for those of the tests.
        anchors: `noisy`, `lowpass3500`, `lowpass7000`; `("none",)` for none of them. None chooses them.
        files: how many files are heard. They are drawn from all files that all systems have.
        seconds: how much of a longer file is heard: its loudest part.
        seed: the seed of this draw.
        same_loudness: whether all recordings of a file get the same root mean square.
        checkpoint: of runs, the checkpoint whose test is taken; None for the latest test.
        title: the title that listeners see.

    Raises:
        RunError: a run has no audio, an anchor is not possible, or the output is another page.
        DataError: recordings can't be read, or the systems have no file in common.
    """
    page, chosen = _page(Path(output)), METHODS[method]
    found = find_recordings(systems, clean=clean, noisy=noisy, checkpoint=checkpoint)
    if not found.clean and chosen is MUSHRA:
        raise RunError(
            "MUSHRA needs the clean recordings as its reference, and these systems have none",
            remedy="name their folder with `--clean`, or use `--method p835`, which needs no reference",
        )
    sr = min(audio_info(path).sr for path in found.clean.values()) if found.clean else 0
    has_reference = bool(found.clean) and chosen is MUSHRA
    if anchors is None:
        wanted = default_anchors(noisy=bool(found.noisy), reference=has_reference, sr=sr)
    else:
        wanted = check_anchors(anchors, noisy=bool(found.noisy), reference=bool(found.clean), sr=sr)
    rows = _systems(found, wanted)
    _check_systems(rows, chosen)
    materials, notes = _materials(found, wanted, files, seconds, seed, same_loudness)
    settings = {
        "files": files,
        "seconds": seconds,
        "seed": seed,
        "anchors": list(wanted),
        "same_loudness": same_loudness,
    }
    test = _Test(chosen, title, rows, materials, settings)
    key = Key(test.id, chosen, title, rows, test.stimuli(found), {**settings, "begins": test.begins()})
    where = key_path(page)
    _check_free(where, key)
    content = render_page("listen.html", [ASSETS], title=title, test=test.to_json(), method=chosen)
    minutes = test.minutes
    notes = [*found.notes, *notes, *_advice(rows, chosen, minutes, seconds)]
    make_folder(page.parent)
    # The key first: a page without its key would waste the time of listeners.
    write_whole(where, json.dumps(key.to_json(), indent=1, ensure_ascii=False) + "\n")
    size = write_whole(page, content).size
    names = tuple(row.name for row in rows)
    heard = tuple(one.id for one in materials[test.training :])
    return ListeningTest(page, where, key.page, method, heard, names, minutes, size, tuple(notes))


def _page(output: Path) -> Path:
    if output.suffix.lower() not in (".html", ".htm"):
        raise RunError(f"the page `{output}` must end in `.html`", remedy=f"name it `{output.with_suffix('.html')}`")
    return output


def _systems(found: Recordings, anchors: Sequence[str]) -> tuple[KeyedSystem, ...]:
    rows = [KeyedSystem(system.name, SYSTEM, system.source) for system in found.systems]
    rows += [KeyedSystem(NOISY, NOISY_ROLE, "what the systems were given")] * (NOISY in anchors)
    rows += [
        KeyedSystem(name, CONTROL, f"the reference below {LOW_PASSES[name].cutoff} Hz")
        for name in anchors
        if name in LOW_PASSES
    ]
    rows += [KeyedSystem(REFERENCE, CONTROL, "the clean recordings")] * bool(found.clean)
    return tuple(rows)


def _check_systems(rows: Sequence[KeyedSystem], method: Method) -> None:
    if len(rows) > _MOST:
        raise RunError(
            f"{len(rows)} recordings in a trial are too many: nobody keeps them apart",
            remedy=f"compare at most {_ADVISED}, and better 5, in one test",
        )
    if len(rows) < 2:
        raise RunError(
            f"one system alone can't be compared in a {method.label} test",
            remedy="name another system, or the folders of the noisy or the clean recordings",
        )


def _materials(
    found: Recordings, anchors: Sequence[str], files: int, seconds: float, seed: int, same_loudness: bool
) -> tuple[list[Material], list[str]]:
    """Reads the drawn files, that of the training first. A file that can't be heard is replaced by the next one."""
    order = random.Random(seed).sample(found.ids, len(found.ids))
    guide = REFERENCE if found.clean else found.systems[0].name if not found.noisy else NOISY
    materials: list[Material] = []
    findings: dict[str, list[str]] = {}
    left_out: dict[str, str] = {}
    for name in order:
        if len(materials) > files:
            break
        paths = {system.name: system.files[name] for system in found.systems}
        if found.noisy and (NOISY in anchors or guide == NOISY):
            paths[NOISY] = found.noisy[name]
        if found.clean:
            paths[REFERENCE] = found.clean[name]
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
        for text in (*material.findings, *_other_inputs(found, material)):
            findings.setdefault(text, []).append(name)
        if material.gain < 1:
            text = "all recordings of a file are made quieter, so that none is clipped"
            findings.setdefault(text, []).append(name)
        materials.append(material)
    notes = [f"warning: {text}: {listed(names, most=5)}" for text, names in findings.items()]
    if left_out:
        why = "; ".join(f"{name} ({reason})" for name, reason in list(left_out.items())[:3])
        notes.append(f"warning: {len(left_out)} files can't be heard, and others are drawn in their place: {why}")
    if not materials:
        raise DataError("no file can be heard", notes=notes, remedy="check the recordings")
    if len(materials) <= files:
        notes.append(f"{len(materials)} of {files} files: all that there are; the training uses one of them")
        materials.insert(0, materials[-1])
    else:
        materials.insert(0, materials.pop())
    return materials, notes


def _other_inputs(found: Recordings, material: Material) -> Iterable[str]:
    """Yields which systems were tested with other recordings under the same ID."""
    for kind in ("clean", "noisy"):
        having = [system for system in found.systems if material.id in getattr(system, kind)]
        paths = [getattr(system, kind)[material.id] for system in having]
        if len(set(paths)) > 1:
            for place in differing(paths, material.begin, material.seconds):
                yield f"{having[place].name} was tested with another {kind} recording than {having[0].name}"


def _advice(rows: Sequence[KeyedSystem], method: Method, minutes: int, seconds: float) -> Iterable[str]:
    if method is MUSHRA and len(rows) > _ADVISED:
        yield f"warning: {len(rows)} recordings in a trial; BS.1534 advises at most {_ADVISED}"
    if method is MUSHRA and seconds > 12:
        yield f"warning: {seconds:g} seconds are hard to keep in mind; BS.1534 advises at most 12"
    if minutes > _LONG:
        yield (
            f"warning: about {minutes} minutes are long for one sitting: fewer `--files` or shorter `--seconds` help; "
            "a listener can also stop and go on later"
        )


def _check_free(where: Path, key: Key) -> None:
    """Refuses to replace the key of another page: without it, the ratings of that page would be worth nothing."""
    if where.exists() and read_key(where).page != key.page:
        raise RunError(
            f"`{where}` is the key of another page, and its ratings can't be read without it",
            remedy="give the new page another name, or delete the old page and its key",
        )


class _Test:
    """What the page has. All names in it are hashes, so the page says nothing about systems and files."""

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
        facts = [method.name, title, settings, self.names, [(one.id, one.begin, one.sr) for one in materials]]
        content.update(json.dumps(facts).encode())
        for material in materials:
            for name in self.names:
                content.update(material.waves[name].tobytes())
        self.id = content.hexdigest()[:12]

    def token(self, place: int, name: str) -> str:
        """Returns the name of a recording in the page; that of a trial for the name ""."""
        return hashlib.sha256(f"{self.id}/{place}/{name}".encode()).hexdigest()[:10]

    def heard(self, place: int) -> list[str]:
        """Returns the systems of a trial. The training of P.835 has few of them, from the best to the worst."""
        if place or self.method is MUSHRA:
            return self.names
        few = [name for name in (REFERENCE, NOISY, *self.names) if name in self.names]
        return list(dict.fromkeys(few))[:_PRACTICE]

    @property
    def minutes(self) -> int:
        """About how long a listener needs: each recording is heard twice in MUSHRA, and three times in P.835."""
        total = 120.0
        for place, material in enumerate(self.materials):
            count = len(self.heard(place))
            if self.method is MUSHRA:
                total += count * (2 * material.seconds + 5) + 2 * material.seconds + 5
            else:
                total += count * (3 * (material.seconds + 3) + 2)
        return math.ceil(total / 60)

    def stimuli(self, found: Recordings) -> dict[str, Stimulus]:
        """Returns the recordings that are rated, in the order of their names in the page."""
        of = {system.name: system.files for system in found.systems} | {NOISY: found.noisy, REFERENCE: found.clean}
        every = {
            self.token(place, name): Stimulus(
                self.token(place, ""), material.id, name, str(of.get(name, {}).get(material.id, ""))
            )
            for place, material in enumerate(self.materials)
            if place >= self.training
            for name in self.heard(place)
        }
        return dict(sorted(every.items()))

    def begins(self) -> dict[str, float]:
        """Returns where the part of each file that is heard begins, in seconds."""
        return {one.id: round(one.begin, 3) for one in self.materials}

    def to_json(self) -> dict[str, Any]:
        """Returns the data of the page."""
        trials: list[dict[str, Any]] = []
        audio: dict[str, str] = {}
        for place, material in enumerate(self.materials):
            tokens = {name: self.token(place, name) for name in self.heard(place)}
            audio |= {token: _flac(material.waves[name], material.sr) for name, token in tokens.items()}
            reference = None
            if self.method is MUSHRA:
                reference = self.token(place, "\0reference")
                audio[reference] = _flac(material.waves[REFERENCE], material.sr)
            trials.append(
                {
                    "id": self.token(place, ""),
                    "training": place < self.training,
                    "seconds": material.seconds,
                    "reference": reference,
                    # Sorted, so that the order of the systems can't be seen in the page.
                    "stimuli": sorted(tokens.values()),
                }
            )
        loudness = next(name for name in (REFERENCE, NOISY, self.names[0]) if name in self.heard(0))
        return {
            "page": self.id,
            "method": self.method.name,
            "title": self.title,
            "minutes": self.minutes,
            "scales": [scale.to_json() for scale in self.method.scales],
            "volume": self.token(0, loudness),
            "trials": trials,
            "audio": dict(sorted(audio.items())),
        }


def _flac(samples: NDArray[np.int16], sr: int) -> str:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, sr, format="FLAC", subtype="PCM_16")
    return base64.b64encode(file.getvalue()).decode()
