"""Makes the modules next to an experiment's TOML file importable for that experiment only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from importlib.machinery import ModuleSpec, PathFinder, all_suffixes
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, ClassVar

from audiozen_core.registry.entry import Entry

if TYPE_CHECKING:  # every command imports this module, and `resolved` imports the modules that read signatures
    from audiozen_core.registry.resolved import Resolved

_FOUNDATIONS = (
    "audiozen audiozen_core audiozen_plugins torch torchaudio torchgen functorch triton numpy pluggy click structlog "
    "safetensors soundfile rich tomli sympy mpmath networkx jinja2 markupsafe fsspec filelock typing_extensions "
    "setuptools pkg_resources cffi pygments markdown_it mdurl"
)
RESERVED = frozenset({*sys.stdlib_module_names, *_FOUNDATIONS.split()})
"""Top-level modules that no file next to the TOML file can replace: Python's modules, AudioZEN, its dependencies."""


class ImportScope:
    """A context in which the folders of one experiment come first on the import path, in the given order.

    Inside the scope, `trainer` is the experiment's own `trainer.py`, even if a package of that name is installed or
    already imported. At the exit, `sys.path` and `sys.modules` are restored. Installed modules that were imported
    inside the scope stay imported, because torch, for example, can't be imported twice. Entering the scope again
    restores the experiment's own modules. Scopes may be nested, and only the innermost scope is active.

    Files whose names are in `RESERVED` are ignored, so that a `logging.py` or a `torch.py` in the folder does no harm.
    `hidden` finds such files. A module that was already imported from the same file is used again, not imported a
    second time.

    `resolved` holds the objects that were resolved inside the scope, by path and kind. `used` holds the installed
    components among them, each with its path. `recorded` is a
    function that looks up which distribution provided a component when the experiment was last run. The function
    returns the requirement for the distribution, such as `acme==1.0`, and the file with the record.

    The import path belongs to the process, so two threads can't have different scopes at the same time. A forked
    process stays in the scope of its parent process.
    """

    _open: ClassVar[list[ImportScope]] = []

    def __init__(self, dirs: Iterable[Path | str]) -> None:
        self.dirs = tuple(dict.fromkeys(os.path.abspath(folder) for folder in dirs))  # noqa: PTH100 - links are kept
        self.resolved: dict[tuple[str, str | None], Resolved] = {}
        self.used: set[tuple[str, Entry]] = set()
        self.recorded: Callable[[str], tuple[str, str] | None] = lambda path: None
        self._modules: dict[str, ModuleType] = {}
        self._extra_path: list[str] = []
        self._outer_path: list[str] = []
        self._before: dict[str, ModuleType] = {}
        self._displaced: dict[str, ModuleType] = {}

    @classmethod
    def of_file(cls, toml: Path | str) -> ImportScope:
        """Returns the scope of an experiment: the folder of its TOML file, then that folder's parent."""
        folder = os.path.dirname(os.path.abspath(toml))  # noqa: PTH100, PTH120
        return cls([folder, os.path.dirname(folder)])  # noqa: PTH120

    @classmethod
    def current(cls) -> ImportScope | None:
        """Returns the innermost open scope; None outside of all scopes."""
        return cls._open[-1] if cls._open else None

    def __enter__(self) -> ImportScope:
        if self._open:
            self._open[-1]._deactivate()
        self._open.append(self)
        self._activate()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.current() is not self:
            raise RuntimeError("import scopes must be left in the reverse order of entering")
        self._deactivate()
        self._open.pop()
        if self._open:
            self._open[-1]._activate()

    def imported_files(self) -> list[Path]:
        """Returns the files of the experiment's own modules that have been imported. Call it outside the scope."""
        files = [Path(file) for module in self._modules.values() if (file := getattr(module, "__file__", None))]
        return sorted({file for file in files if file.suffix == ".py"})

    def local_modules(self) -> dict[str, Path]:
        """Returns the importable modules and packages in the folders, by name."""
        found: dict[str, Path] = {}
        for folder in self.dirs:
            for name, place in _importable(folder):
                found.setdefault(name, place)
        return found

    def hidden(self, name: str) -> Path | None:
        """Returns the file in the folders that is ignored because its name is reserved; None if no such file exists."""
        top = name.partition(".")[0]
        return self.local_modules().get(top) if top in RESERVED else None

    def is_local(self, name: str) -> bool:
        """Returns whether a module is, or would be, imported from one of the folders."""
        top = name.partition(".")[0]
        return top not in RESERVED and (self._is_in_folders(top) if top in sys.modules else top in self.local_modules())

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Finds reserved modules outside the folders. Python calls this method of each object in `sys.meta_path`."""
        return PathFinder.find_spec(fullname, installed_path()) if path is None and fullname in RESERVED else None

    def _activate(self) -> None:
        self._outer_path = list(sys.path)
        self._before = dict(sys.modules)
        for folder in self.dirs:
            finder = sys.path_importer_cache.get(folder)
            if finder is not None and hasattr(finder, "invalidate_caches"):
                finder.invalidate_caches()  # otherwise Python might not find a file that was just written
        saved = {name.partition(".")[0] for name in self._modules}
        local = {name for name in self.local_modules() if name not in RESERVED}
        # A module that was imported from these folders outside the scope is used again, unless the scope has its own
        # copy.
        taken = saved | {name for name in local if name in sys.modules and not self._is_in_folders(name)}
        for name in list(sys.modules):
            if name.partition(".")[0] in taken:
                self._displaced[name] = sys.modules.pop(name)
        sys.modules.update(self._modules)
        sys.path[:0] = [*self.dirs, *self._extra_path]
        place = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else 0
        sys.meta_path.insert(place, self)

    def _deactivate(self) -> None:
        sys.meta_path.remove(self)
        known = {*self._outer_path, *self.dirs}
        self._extra_path = [entry for entry in sys.path if entry not in known]
        new = [name for name, module in list(sys.modules.items()) if self._before.get(name) is not module]
        local = {top for top in {name.partition(".")[0] for name in new} if self._is_local(top, new)}
        self._modules = {name: sys.modules.pop(name) for name in new if name.partition(".")[0] in local}
        sys.modules.update(self._displaced)
        self._displaced = {}
        self._before = {}
        sys.path[:] = self._outer_path

    def _is_local(self, top: str, new: Collection[str]) -> bool:
        """Returns whether a top-level module was imported inside this scope, from one of the scope's folders."""
        if top in RESERVED or (top in self._before and self._before[top] is sys.modules.get(top)):
            return False
        if top in sys.modules:
            return self._is_in_folders(top)
        # If the import of a package fails, its sub-modules stay in `sys.modules`.
        return any(self._is_in_folders(name) for name in new if name.startswith(f"{top}."))

    def _is_in_folders(self, name: str) -> bool:
        places = set(_places(sys.modules[name]))
        return any(Path(folder, *name.split(".")) in places for folder in (*self.dirs, *self._extra_path))


def installed_path() -> list[str]:
    """Returns `sys.path` without the folders of an open scope."""
    scope = ImportScope.current()
    if scope is None:
        return list(sys.path)
    return [entry for entry in scope._outer_path if os.path.abspath(entry) not in scope.dirs]  # noqa: PTH100


def _places(module: object) -> Iterator[Path]:
    """Yields the files of a module: its path without a suffix, and the folders of a package."""
    names = getattr(module, "__dict__", {})  # `getattr` would trigger lazy imports in some modules
    file = names.get("__file__")
    if isinstance(file, str):
        yield Path(file).with_name(Path(file).name.partition(".")[0])
    try:
        yield from [Path(entry) for entry in names.get("__path__") or () if isinstance(entry, str)]
    except (KeyError, TypeError):  # a namespace package whose parent has been removed from `sys.modules`
        return


def _importable(folder: str) -> Iterator[tuple[str, Path]]:
    """Yields the modules in a folder. Folders without `__init__.py`, such as `exp/`, are not packages here."""
    try:
        with os.scandir(folder) as items:
            found = sorted(items, key=lambda item: item.name)
    except OSError:
        return
    suffixes = tuple(all_suffixes())
    for item in found:
        stem = item.name.partition(".")[0]
        if item.name.endswith(suffixes) and stem.isidentifier():
            yield stem, Path(item.path)
        elif item.name.isidentifier() and Path(item.path, "__init__.py").is_file():
            yield item.name, Path(item.path)
