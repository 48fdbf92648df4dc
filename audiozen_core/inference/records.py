"""The record of enhanced files: the results, and the network and options that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from audiozen_core.audio.listing import RECORD
from audiozen_core.errors import RunError
from audiozen_core.inference.inputs import Job
from audiozen_core.storage.append import LineFile
from audiozen_core.storage.atomic import make_folder

# Hidden, so that it is not taken for a result. Two commands in one folder share the file, and the first to end removes
# it. An interruption of the other command then leaves results without a record, which are refused, not mistaken.
_BEGUN = ".enhanced_begun.jsonl"


class Records:
    """The record of the results in an output folder.

    Args:
        folder: the output folder.
        made_with: the network and the options, as values that JSON can hold.
        keeps: whether results are recorded. Otherwise no record file is written.
    """

    def __init__(self, folder: Path, made_with: Mapping[str, Any], *, keeps: bool = True) -> None:
        self.folder = folder
        self._keeps = keeps
        self._made_with = dict(made_with)
        self._lines: LineFile | None = None
        self._notes: LineFile | None = None
        self._records = _read(folder / RECORD) if keeps else {}
        self._begun = _read_begun(folder / _BEGUN) if keeps else set()

    def state(self, job: Job) -> str:
        """Returns the state of a result: "" if it must be made, `done`, or a text that says how it differs."""
        if self._key(job) in self._begun:
            return ""  # an interrupted command may have left a result that it had not recorded yet
        record = self._records.get(self._key(job))
        if record is None:
            # If a network returns several signals, their files are numbered.
            first = job.target.with_stem(f"{job.target.stem}_1")
            unknown = f"no record says how it was made{'' if self._keeps else ', because the output is one file'}"
            return unknown if job.target.exists() or first.exists() else ""
        states = [_is_unchanged(self.folder / name, facts) for name, facts in record["files"].items()]
        if None in states:
            return ""
        if not all(states):
            return "it was changed afterwards"
        if record["source"] != source_facts(job):
            return "it was made from another input"
        for key, value in self._made_with.items():
            if record["made_with"].get(key) != value:
                return f"it was made with another {key}"
        return "done"

    def begin(self, job: Job) -> None:
        """Notes in a hidden file that a result is about to be written.

        If the command is interrupted before the result is recorded, the next command knows that it may replace it.

        Raises:
            RunError: the file can't be written.
        """
        self._begun.add(self._key(job))
        self._note("begun", job)

    def _note(self, event: str, job: Job) -> None:
        if not self._keeps:
            return
        with _explained_errors(self.folder / _BEGUN):
            if self._notes is None:
                make_folder(self.folder)
                self._notes = LineFile(self.folder / _BEGUN)
            if error := self._notes.write(json.dumps({event: self._key(job)})):
                raise error

    def add(self, job: Job, paths: Sequence[Path], source: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Records a result.

        Args:
            job: the file.
            paths: the files that were written.
            source: the `source_facts` from before the file was read, because a recording may still grow.
            facts: additional values to record.

        Raises:
            RunError: the record can't be written.
        """
        if not self._keeps:  # the facts of the files need not be computed
            return
        with _explained_errors(self.folder / RECORD):
            record = {
                "result": self._key(job),
                "files": {path.relative_to(self.folder).as_posix(): _file_facts(path) for path in paths},
                "source": source,
                "made_with": self._made_with,
                **facts,
            }
            if self._lines is None:
                self._lines = LineFile(self.folder / RECORD)
            # JSON escapes bytes of names that are not UTF-8, and restores them when it is read.
            if error := self._lines.write(json.dumps(record)):
                raise error
        self._begun.discard(self._key(job))
        self._note("recorded", job)

    def give_up(self, job: Job) -> None:
        """Notes that a result was not written after `begin`."""
        self._begun.discard(self._key(job))
        self._note("recorded", job)

    def close(self) -> None:
        """Closes the files."""
        for file in (self._lines, self._notes):
            if file is not None:
                file.close()
        if self._keeps and not self._begun:
            with suppress(OSError):
                (self.folder / _BEGUN).unlink(missing_ok=True)

    def _key(self, job: Job) -> str:
        return job.target.relative_to(self.folder).as_posix()


def check_results(states: Mapping[Path, str]) -> None:
    """Raises an error if a result was made in a different way, given the state of each result."""
    others = {path: state for path, state in states.items() if state not in ("", "done")}
    if others:
        path, state = next(iter(others.items()))
        more = f", and {len(others) - 1} more" if len(others) > 1 else ""
        raise RunError(
            f"`{path}` exists, but {state}{more}; nothing was changed",
            remedy="name another output folder, or replace the files with `--overwrite`",
        )


@contextmanager
def _explained_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "check the permissions of the folder and the file"
        raise RunError(f"`{path}` can't be written: {error.strerror}", remedy=remedy) from error


def _read(path: Path) -> dict[str, Any]:
    """Returns the most recent record of each result. Skips lines that can't be read."""
    records: dict[str, Any] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
                if all(isinstance(record[key], dict) for key in ("files", "source", "made_with")):
                    records[record["result"]] = record
            except (ValueError, KeyError, TypeError):
                continue
    return records


def _read_begun(path: Path) -> set[str]:
    """Returns the results that were begun, but not recorded, by a command that was interrupted."""
    begun: set[str] = set()
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, AttributeError, KeyError):  # a line that was not written completely
                note = json.loads(line)
                if "begun" in note:
                    begun.add(note["begun"])
                else:
                    begun.discard(note["recorded"])
    return begun


def source_facts(job: Job) -> dict[str, Any]:
    """Returns facts that show whether an input has changed."""
    try:
        status = job.source.stat()
    except OSError:
        return {"path": str(job.source)}
    return {"path": str(job.source), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _file_facts(path: Path) -> dict[str, Any]:
    """Returns facts that show whether a result has changed."""
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "blake2b": _digest(path)}


def _is_unchanged(path: Path, facts: Any) -> bool | None:
    """Returns whether a result is unchanged since it was recorded; None if it does not exist.

    The file is only read if its modification time differs, as for a copy.
    """
    try:
        status = path.stat()
        if not isinstance(facts, dict) or status.st_size != facts.get("size"):
            return False
        return status.st_mtime_ns == facts.get("mtime_ns") or _digest(path) == facts.get("blake2b")
    except OSError:
        return None


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
