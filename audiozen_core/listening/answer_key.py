"""The key of a page, which maps the random names of recordings in the page to files and systems."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiozen_core.errors import DataError
from audiozen_core.listening.methods import METHODS, Method

KIND = "audiozen listening key"
FORMAT = 1
ENDING = ".key.json"

SYSTEM, NOISY_ROLE, CONTROL = "system", "noisy", "control"


@dataclass(frozen=True, slots=True)
class KeyedSystem:
    """A system or an anchor of a page.

    Attributes:
        name: the name of the system.
        role: `system`; `noisy` for the input recordings of the systems; `control` for the hidden reference and for the
            anchors that are made from the reference.
        source: a text that describes where the recordings came from, such as their folder.
    """

    name: str
    role: str
    source: str


@dataclass(frozen=True, slots=True)
class Stimulus:
    """A recording of a page.

    Attributes:
        trial: the random name of the trial in the page.
        file: the ID of the file.
        system: the name of the system.
        path: the path of the recording; "" for a low-pass anchor, which has no file.
    """

    trial: str
    file: str
    system: str
    path: str


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """The key of a page.

    Attributes:
        page: the ID of the page.
        method: the method of the listening test.
        title: the title of the page.
        systems: the systems and anchors, in the order of tables.
        stimuli: the rated recordings, by their random names in the page. Recordings of the training trial are not
            included.
        settings: the settings with which the page was made.
    """

    page: str
    method: Method
    title: str
    systems: tuple[KeyedSystem, ...]
    stimuli: Mapping[str, Stimulus]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of the key file."""
        return {
            "kind": KIND,
            "format": FORMAT,
            "page": self.page,
            "method": self.method.name,
            "title": self.title,
            "settings": dict(self.settings),
            "systems": [{"name": row.name, "role": row.role, "source": row.source} for row in self.systems],
            "stimuli": {
                token: {
                    "trial": stimulus.trial,
                    "file": stimulus.file,
                    "system": stimulus.system,
                    "path": stimulus.path,
                }
                for token, stimulus in self.stimuli.items()
            },
        }


def key_path(page: Path) -> Path:
    """Returns the path of the key of a page: `page.key.json` next to `page.html`."""
    return page.with_name(page.stem + ENDING)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Reads a JSON file of a listening test.

    Args:
        path: the file.
        what: a description of the file for error messages.

    Raises:
        DataError: the file can't be read, or it is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"`{path}` can't be read: {error.strerror}", remedy="check the path") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"`{path}` is incomplete or not JSON: {error}", remedy=f"give {what}, unchanged") from error
    if not isinstance(content, dict):
        raise DataError(f"`{path}` is not {what}", remedy=f"give {what}, unchanged")
    return content


def read_key(path: Path) -> AnswerKey:
    """Reads the key of a page.

    Raises:
        DataError: the file can't be read, or is not the key of a page.
    """
    what = "the key of a listening test, which `audiozen listen` wrote next to the page"
    remedy = "to write the key again, run the same `audiozen listen` command with the same audio"
    content = read_json(path, what)
    if content.get("kind") != KIND:
        raise DataError(f"`{path}` is not {what}", remedy="give the file that ends in `.key.json` with `--key`")
    if content.get("format") != FORMAT:
        raise DataError(
            f"`{path}` has the format {content.get('format')!r}, but this version of AudioZEN reads {FORMAT}",
            remedy="use the version of AudioZEN that wrote the file",
        )
    try:
        method = METHODS[content["method"]]
        systems = tuple(
            KeyedSystem(str(row["name"]), str(row["role"]), str(row["source"])) for row in content["systems"]
        )
        stimuli = {
            str(token): Stimulus(str(row["trial"]), str(row["file"]), str(row["system"]), str(row["path"]))
            for token, row in content["stimuli"].items()
        }
        key = AnswerKey(str(content["page"]), method, str(content["title"]), systems, stimuli, content["settings"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"the key `{path}` is incomplete or was changed: {error!r}", remedy=remedy) from error
    names = {system.name for system in systems}
    if unknown := next((stimulus.system for stimulus in stimuli.values() if stimulus.system not in names), None):
        raise DataError(
            f"the key `{path}` was changed: it refers to `{unknown}`, which is not one of its systems", remedy=remedy
        )
    return key
