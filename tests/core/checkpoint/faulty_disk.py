"""A disk that fails at a chosen operation: the process is killed, the operation fails, or the power is cut.

`FaultyDisk` passes all operations on to the real disk. It numbers the operations that change something: create, write,
sync, rename, link, delete. It also keeps a model of the durable content: the bytes of a file after a sync of the file,
and the names in a folder after a sync of the folder. `after_power_cut` writes only the durable content to a new folder.
"""

# ruff: noqa: PTH102, PTH104, PTH106, PTH108, PTH115, PTH211

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors

from audiozen_core.storage import append, atomic

_real_serialize_file = safetensors.serialize_file


class KilledError(BaseException):
    """The process is dead: no handler may catch this, and no later operation works."""


@dataclass
class Fault:
    """The fault at operation number `at`, counted from 0.

    Attributes:
        at: the number of the operation.
        kind: `kill before`, `kill within` (half of the bytes of a write reach the disk), `short` (the same, but the
            process continues), or `error`.
        code: the error number of an `error`.
        lasting: whether all later operations that need space fail too.
    """

    at: int
    kind: str
    code: int = 0
    lasting: bool = False


@dataclass
class Node:
    """A file or folder in the model: its current content, and its durable content."""

    now: Any
    durable: Any
    is_folder: bool = False
    target: str | None = None


def _folder_node() -> Node:
    return Node({}, {}, is_folder=True)


@dataclass
class FaultyDisk:
    """Replaces the module `os` in `audiozen_core.storage.atomic` and `audiozen_core.storage.append`."""

    root: Path
    fault: Fault | None = None
    links: bool = True
    done: list[str] = field(default_factory=list)
    dead: bool = False
    _open: dict[int, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model = self._read_in(self.root)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    # ------------------------------------------------------------------------------- the operations

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        if not flags & os.O_CREAT or (not flags & os.O_EXCL and self._find(path)):
            descriptor = os.open(path, flags)
            node = self._find(path)
            if node:
                self._open[descriptor] = node
            return descriptor

        def create() -> int:
            descriptor = os.open(path, flags, mode)
            self._open[descriptor] = self._names(path)[Path(path).name] = Node(b"", b"")
            return descriptor

        return self._operation("create", path, create)

    def write(self, descriptor: int, data: Any) -> int:
        data = bytes(data)
        if self.fault and self.fault.kind in ("kill within", "short") and len(self.done) == self.fault.at:
            data = data[: (len(data) + 1) // 2]

        def write() -> int:
            self._open[descriptor].now += data
            return os.write(descriptor, data)

        return self._operation("write", f"{len(data)} bytes", write)

    def serialize_file(self, tensors: Any, path: Path, metadata: Any) -> None:
        """Replaces a safetensors function that bypasses `os`. A call is one write, which may be cut short."""

        def write() -> None:
            _real_serialize_file(tensors, path, metadata)
            content = Path(path).read_bytes()
            if self.fault and self.fault.kind == "kill within" and len(self.done) == self.fault.at:
                content = content[: len(content) // 2]
                Path(path).write_bytes(content)
            self._names(path)[Path(path).name] = Node(content, b"")

        try:
            self._operation("write", f"{Path(path).name} by the library", write)
        except OSError as error:
            raise safetensors.SafetensorError(f"I/O error: {error}") from error

    def fsync(self, descriptor: int) -> None:
        def sync() -> None:  # A real sync is slow, and the power is never really cut.
            node = self._open.get(descriptor)
            if node:
                node.durable = dict(node.now) if node.is_folder else node.now

        self._operation("fsync", "", sync)

    def mkdir(self, path: Any) -> None:
        def make() -> None:
            os.mkdir(path)
            self._names(path)[Path(path).name] = _folder_node()

        self._operation("mkdir", path, make)

    def symlink(self, target: str, path: Any, target_is_directory: bool = False) -> None:
        if not self.links:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        def link() -> None:
            os.symlink(target, path, target_is_directory)
            self._names(path)[Path(path).name] = Node(None, None, target=target)

        self._operation("symlink", path, link)

    def rename(self, source: Any, target: Any, kind: str = "rename") -> None:
        def move() -> None:
            os.rename(source, target)
            self._names(target)[Path(target).name] = self._names(source).pop(Path(source).name)

        self._operation(kind, f"{Path(source).name} -> {Path(target).name}", move)

    def replace(self, source: Any, target: Any) -> None:
        self.rename(source, target, "replace")

    def unlink(self, path: Any) -> None:
        def delete() -> None:
            os.unlink(path)
            self._names(path).pop(Path(path).name)

        self._operation("unlink", path, delete)

    def rmdir(self, path: Any) -> None:
        def delete() -> None:
            os.rmdir(path)
            self._names(path).pop(Path(path).name)

        self._operation("rmdir", path, delete)

    # ------------------------------------------------------------------------------- faults

    def _operation(self, kind: str, about: object, act: Callable[[], Any]) -> Any:
        if self.dead:
            raise KilledError
        number, fault = len(self.done), self.fault
        if fault and fault.kind == "error":
            needs_space = kind in ("create", "write", "mkdir", "symlink")
            if number == fault.at or (fault.lasting and number > fault.at and needs_space):
                self.done.append(f"{kind} {about}: failed")
                raise OSError(fault.code, os.strerror(fault.code))
        if fault and number == fault.at and fault.kind == "kill before":
            self.dead = True
            raise KilledError
        result = act()
        self.done.append(f"{kind} {about}")
        if fault and number == fault.at and fault.kind == "kill within":
            self.dead = True
            raise KilledError
        return result

    # ------------------------------------------------------------------------------- the model

    def after_power_cut(self, folder: Path) -> None:
        """Creates `folder` with the durable content only."""
        _write_out(self.model, folder)

    def _read_in(self, path: Path) -> Node:
        if path.is_symlink():
            return Node(None, None, target=os.readlink(path))
        if path.is_dir():
            names = {entry.name: self._read_in(entry) for entry in path.iterdir()}
            return Node(dict(names), dict(names), is_folder=True)
        return Node(path.read_bytes(), path.read_bytes())

    def _find(self, path: Any) -> Node | None:
        node: Node | None = self.model
        for part in Path(path).relative_to(self.root).parts:
            node = node.now.get(part) if node and node.is_folder else None
        return node

    def _names(self, path: Any) -> dict[str, Node]:
        node = self._find(Path(path).parent)
        assert node is not None
        names: dict[str, Node] = node.now
        return names


def _write_out(node: Node, path: Path) -> None:
    if node.target is not None:
        path.symlink_to(node.target)
    elif node.is_folder:
        path.mkdir()
        for name, member in node.durable.items():
            _write_out(member, path / name)
    else:
        path.write_bytes(node.durable)


def install(monkeypatch: Any, disk: FaultyDisk) -> FaultyDisk:
    """Makes the code under test use `disk` instead of the real one."""
    monkeypatch.setattr(atomic, "os", disk)
    monkeypatch.setattr(append, "os", disk)
    monkeypatch.setattr(safetensors, "serialize_file", disk.serialize_file)
    return disk
