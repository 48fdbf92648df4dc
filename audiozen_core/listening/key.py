"""The key of a page: which system each of its recordings is. The page has random names only."""

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
        name: its name.
        role: `system`; `noisy` for the recordings that the systems were given; `control` for the hidden reference and
            the anchors that are made of it.
        source: the folder of its recordings, in words.
    """

    name: str
    role: str
    source: str


@dataclass(frozen=True, slots=True)
class Stimulus:
    """A recording of a page.

    Attributes:
        trial: the name of its trial in the page.
        file: the ID of the file.
        system: the name of the system.
        path: the recording on the disk; "" for an anchor that was made.
    """

    trial: str
    file: str
    system: str
    path: str


@dataclass(frozen=True, slots=True)
class Key:
    """The key of a page.

    Attributes:
        page: the ID of the page.
        method: its method.
        title: its title.
        systems: the systems and anchors, in the order of tables.
        stimuli: by the name in the page, each recording that is rated. Those of the training are not among them.
        settings: how the page was made.
    """

    page: str
    method: Method
    title: str
    systems: tuple[KeyedSystem, ...]
    stimuli: Mapping[str, Stimulus]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of the file."""
        return {
            "kind": KIND,
            "format": FORMAT,
            "page": self.page,
            "method": self.method.name,
            "title": self.title,
            "settings": dict(self.settings),
            "systems": [{"name": one.name, "role": one.role, "source": one.source} for one in self.systems],
            "stimuli": {
                token: {"trial": one.trial, "file": one.file, "system": one.system, "path": one.path}
                for token, one in self.stimuli.items()
            },
        }


def key_path(page: Path) -> Path:
    """Returns where the key of a page is: `page.key.json` beside `page.html`."""
    return page.with_name(page.stem + ENDING)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Reads a JSON file of a listening test.

    Raises:
        DataError: it can't be read, or is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"`{path}` can't be read: {error.strerror}", remedy="check the path") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"`{path}` is not whole or not JSON: {error}", remedy=f"give {what}, unchanged") from error
    if not isinstance(content, dict):
        raise DataError(f"`{path}` is not {what}", remedy=f"give {what}, unchanged")
    return content


def read_key(path: Path) -> Key:
    """Reads the key of a page.

    Raises:
        DataError: the file can't be read, or is not the key of a page.
    """
    what = "the key of a listening test, which `audiozen listen` wrote beside the page"
    content = read_json(path, what)
    if content.get("kind") != KIND:
        raise DataError(f"`{path}` is not {what}", remedy="name the file that ends in `.key.json` with `--key`")
    if content.get("format") != FORMAT:
        raise DataError(
            f"`{path}` has the format {content.get('format')!r}, but this version of AudioZEN reads {FORMAT}",
            remedy="use the version that wrote it",
        )
    try:
        method = METHODS[content["method"]]
        systems = tuple(KeyedSystem(str(of["name"]), str(of["role"]), str(of["source"])) for of in content["systems"])
        stimuli = {
            str(token): Stimulus(str(of["trial"]), str(of["file"]), str(of["system"]), str(of["path"]))
            for token, of in content["stimuli"].items()
        }
        key = Key(str(content["page"]), method, str(content["title"]), systems, stimuli, content["settings"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"the key `{path}` lacks a part or was changed: {error!r}",
            remedy="the same `audiozen listen` command with the same audio writes it again",
        ) from error
    names = {one.name for one in systems}
    if wrong := next((one.system for one in stimuli.values() if one.system not in names), None):
        raise DataError(
            f"the key `{path}` was changed: it names `{wrong}`, which is not one of its systems",
            remedy="the same `audiozen listen` command with the same audio writes it again",
        )
    return key
