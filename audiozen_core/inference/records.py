"""The record of enhanced files: the results, and the network and options that made them."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from audiozen_core.audio.listing import RECORD
from audiozen_core.errors import DataError, RunError
from audiozen_core.inference.inputs import Job
from audiozen_core.inference.results import EnhancedFile
from audiozen_core.storage.append import LineFile
from audiozen_core.storage.atomic import Digest, hash_file, make_folder, sync_folder

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
        self._folders: set[Path] = set()  # the folders of new results
        self._lines: LineFile | None = None
        self._notes: LineFile | None = None
        self._records = _read(folder / RECORD) if keeps else {}
        self._recorded = {name for record in self._records.values() for name in record["files"]}
        self._begun = _read_begun(folder / _BEGUN, self._records) if keeps else {}
        self._unrecorded: set[str] = set()  # the results that this command has begun, but not recorded yet
        self._command = secrets.token_hex(8)  # shows which notes and which records belong to the same command

    def state(self, job: Job) -> str:
        """Returns the state of a result: "" if it must be made, `done`, or a text that says how it differs.

        A file may be replaced if a record or the note of an interrupted command shows that it is this result,
        unchanged. All other files belong to the user.
        """
        record = self._records.get(self._key(job))
        if record is None:
            # With several signals, the file in this place is not part of the result. Then it may be a signal of another
            # input. `check_files` knows all names.
            is_ours = self._name(job.target) in self._recorded or self._was_begun(job, job.target)
            unknown = f"no record says how it was made{'' if self._keeps else ', because the output is one file'}"
            return unknown if os.path.lexists(job.target) and not is_ours else ""
        recorded = record["files"]
        paths = {self.folder / name: facts for name, facts in recorded.items()}
        changes = [_change_of(path, facts) for path, facts in paths.items() if not self._was_begun(job, path)]
        if any(changes):
            return next(filter(None, changes))
        if "" not in changes:
            return ""
        if record["source"] != source_facts(job):
            return "its input has another path, size or time now"
        for key, value in self._made_with.items():
            if record["made_with"].get(key) != value:
                return f"it was made with another {key}"
        return "done" if changes == [""] * len(recorded) else ""

    def _was_begun(self, job: Job, path: Path) -> bool:
        """Returns whether a file is what an interrupted command has written as a result of the job."""
        hashes = self._begun.get(self._key(job), {}).get(self._name(path), ())
        try:
            with path.open("rb") if hashes else nullcontext() as file:
                return file is not None and hash_file(file).xxh3 in hashes
        except OSError:
            return False

    def check_files(self, job: Job, paths: Iterable[Path]) -> None:
        """Raises a `DataError` if the files of a result would replace other files.

        `state` does not know all names, because the network has not shown yet how many signals it returns.
        """
        record = self._records.get(self._key(job), {"files": ()})
        for path in paths:
            if self._name(path) not in record["files"] and os.path.lexists(path) and not self._was_begun(job, path):
                raise DataError(
                    f"`{path}` exists, but no record says that it is a result of this input",
                    remedy="give another output folder, or replace the files with `--overwrite`",
                )

    def begin(self, job: Job, files: Mapping[Path, Digest]) -> None:
        """Notes in a hidden file that a result is about to get its name.

        If the command is interrupted before the result is recorded, the next command may replace these files.

        Args:
            job: the file.
            files: the size and the hash of each file of the result.

        Raises:
            RunError: the note or the record can't be written.
        """
        if not self._keeps:
            return
        with _explained_errors(self.folder / RECORD):
            make_folder(self.folder)
            self._lines = self._lines or LineFile(self.folder / RECORD)
        with _explained_errors(self.folder / _BEGUN):
            self._notes = self._notes or LineFile(self.folder / _BEGUN)
            hashes = {self._name(path): digest.xxh3 for path, digest in files.items()}
            note = {"begun": self._key(job), "command": self._command, "files": hashes}
            if error := self._notes.write(json.dumps(note)):
                raise error
        self._unrecorded.add(self._key(job))

    def give_up(self, job: Job) -> None:
        """Forgets a result that was begun, but whose files were removed after an error."""
        self._unrecorded.discard(self._key(job))

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
        self._folders.update((self.folder, *(path.parent for path in written.paths)))  # `self.folder` has the record
        if not self._keeps:  # the facts of the files need not be computed
            return
        key = self._key(job)
        with _explained_errors(self.folder / RECORD):
            facts = [_file_facts(*file) for file in zip(written.paths, digests, strict=True)]
            names = list(map(self._name, written.paths))
            self._remove_old_signals(key, names)
            record = {
                "result": key,
                "files": dict(zip(names, facts, strict=True)),
                "source": source,
                "made_with": self._made_with,
                "frames": written.frames,
                "sr": written.sr,
                "command": self._command,
            }
            assert self._lines is not None
            # JSON escapes bytes of names that are not UTF-8, and restores them when it is read.
            if error := self._lines.write(json.dumps(record)):
                raise error
        self._begun.pop(key, None)
        self._unrecorded.discard(key)

    def _remove_old_signals(self, key: str, names: Sequence[str]) -> None:
        """Removes files of an old result that the new one, of a network with fewer signals, does not replace."""
        for name, facts in self._records.get(key, {"files": {}})["files"].items():
            if name not in names and _change_of(self.folder / name, facts) == "":
                (self.folder / name).unlink()

    def close(self) -> None:
        """Waits until the names of the results and the records are on the disk, and closes the files.

        Raises:
            RunError: the disk reports an error. The notes of what was begun are kept.
        """
        try:
            self._sync()
        finally:
            for file in (self._lines, self._notes):
                if file is not None:
                    file.close()
        if self._keeps and not self._begun and not self._unrecorded:
            with suppress(OSError):
                (self.folder / _BEGUN).unlink(missing_ok=True)

    def _sync(self) -> None:
        """Waits until the names of the results and the records are on the disk.

        This is done once at the end. If the power fails earlier, a name may be lost. Then the next command finds a
        record without its file, and enhances the file again. Or the record and the note of a result may be lost, or a
        result that was replaced with `--overwrite` may be the old file again. Then the next command replaces nothing,
        and says that no record tells how the result was made, or that it was changed afterwards.
        """
        for folder in self._folders:
            try:
                sync_folder(folder)
            except OSError as error:
                remedy = "check the disk, and run the command again"
                raise RunError(f"the names in `{folder}` can't be written: {error.strerror}", remedy=remedy) from error
        with _explained_errors(self.folder / RECORD):
            if self._lines is not None and (unsynced := self._lines.sync()):
                raise unsynced

    def _key(self, job: Job) -> str:
        return self._name(job.target)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def check_results(states: Mapping[Path, str]) -> None:
    """Raises an error if a result was made in a different way, given the state of each result."""
    others = {path: state for path, state in states.items() if state not in ("", "done")}
    if others:
        path, state = next(iter(others.items()))
        # The files of several signals are numbered.
        path = path if os.path.lexists(path) else path.with_stem(f"{path.stem}_1")
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


def _read_begun(path: Path, records: Mapping[str, Any]) -> dict[str, dict[str, set[str]]]:
    """Returns the hashes of files that commands have begun to write, but not recorded, by result and name.

    Args:
        path: the file with the notes.
        records: the most recent record of each result.
    """
    begun: dict[str, dict[str, set[str]]] = {}
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError, KeyError, AttributeError):  # a line that was not written completely
                note = json.loads(line)
                key, hashes = note["begun"], note["files"].items()
                if records.get(key, {}).get("command") != note["command"]:
                    for name, xxh3 in hashes:
                        begun.setdefault(key, {}).setdefault(name, set()).add(xxh3)
    return begun


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
