"""The record of enhanced files: the results, and the network and options that made them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from audiozen_core.audio.listing import RECORD
from audiozen_core.errors import RunError
from audiozen_core.inference.inputs import Job
from audiozen_core.inference.results import EnhancedFile
from audiozen_core.storage.append import LineFile
from audiozen_core.storage.atomic import Digest, hash_file, make_folder

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
        self._begun = _read_begun(folder / _BEGUN, self._records) if keeps else set()
        self._command = secrets.token_hex(8)  # shows which notes and which records belong to the same command

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
        changes = [_change_of(self.folder / name, facts) for name, facts in record["files"].items()]
        if None in changes:
            return ""
        if any(changes):
            return next(filter(None, changes))
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
        key = self._key(job)
        self._begun.add(key)
        self._note({"begun": key, "command": self._command})

    def _note(self, note: Mapping[str, str]) -> None:
        if not self._keeps:
            return
        with _explained_errors(self.folder / _BEGUN):
            if self._notes is None:
                make_folder(self.folder)
                self._notes = LineFile(self.folder / _BEGUN)
            if error := self._notes.write(json.dumps(note)):
                raise error

    def add(self, job: Job, written: EnhancedFile, digests: Sequence[Digest], source: Mapping[str, Any]) -> None:
        """Records a result.

        Args:
            job: the file.
            written: the result.
            digests: the size and the hash of each file.
            source: the `source_facts` from before the file was read, because a recording may still grow.

        Raises:
            RunError: the record can't be written.
        """
        if not self._keeps:  # the facts of the files need not be computed
            return
        key = self._key(job)
        with _explained_errors(self.folder / RECORD):
            facts = [_file_facts(*file) for file in zip(written.paths, digests, strict=True)]
            names = [path.relative_to(self.folder).as_posix() for path in written.paths]
            record = {
                "result": key,
                "files": dict(zip(names, facts, strict=True)),
                "source": source,
                "made_with": self._made_with,
                "frames": written.frames,
                "sr": written.sr,
                "command": self._command,
            }
            if self._lines is None:
                self._lines = LineFile(self.folder / RECORD)
            # JSON escapes bytes of names that are not UTF-8, and restores them when it is read.
            if error := self._lines.write(json.dumps(record)):
                raise error
        self._begun.discard(key)

    def give_up(self, job: Job) -> None:
        """Notes that a result was not written after `begin`."""
        key = self._key(job)
        self._begun.discard(key)
        self._note({"given_up": key})

    def close(self) -> None:
        """Waits until the records are on the disk, and closes the files."""
        if self._lines is not None:
            self._lines.sync()  # errors of writing have been raised by `add`
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
            remedy="give another output folder, or replace the files with `--overwrite`",
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


def _read_begun(path: Path, records: Mapping[str, Any]) -> set[str]:
    """Returns the results that were begun, but not recorded, by a command that was interrupted.

    Args:
        path: the file with the notes.
        records: the most recent record of each result.
    """
    begun: dict[str, str] = {}  # the last command that began each result
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError, KeyError):  # a line that was not written completely
                note = json.loads(line)
                if "begun" in note:
                    begun[note["begun"]] = note["command"]
                else:
                    del begun[note["given_up"]]
    return {key for key, command in begun.items() if records.get(key, {}).get("command") != command}


def source_facts(job: Job) -> dict[str, Any]:
    """Returns facts that show whether an input has changed."""
    try:
        status = job.source.stat()
    except OSError:
        return {"path": str(job.source)}
    return {"path": str(job.source), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _file_facts(path: Path, digest: Digest) -> dict[str, Any]:
    """Returns facts that show whether a result has changed."""
    return {"size": digest.size, "mtime_ns": path.stat().st_mtime_ns, "xxh3": digest.xxh3}


def _change_of(path: Path, facts: Any) -> str | None:
    """Returns how a result differs from its record: "" if it does not differ, and None if it does not exist.

    The file is only read if its modification time differs, as for a copy.
    """
    changed = "it was changed afterwards"
    try:
        status = path.stat()
        if not isinstance(facts, dict) or status.st_size != facts.get("size"):
            return changed
        if status.st_mtime_ns == facts.get("mtime_ns"):
            return ""
        if "xxh3" not in facts:
            return "it may have been changed afterwards: another version of AudioZEN recorded it, without an XXH3 hash"
        with path.open("rb") as file:
            return "" if hash_file(file).xxh3 == facts["xxh3"] else changed
    except OSError:
        return None
