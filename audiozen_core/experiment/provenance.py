"""Creates the record of a run: its effective config, the versions of all packages, the commit, and the command line."""

from __future__ import annotations

import copy
import os
import platform
import shlex
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from audiozen_core.config.checked import CheckedConfig
from audiozen_core.config.toml.emit import emit
from audiozen_core.config.used_plugins import used_text
from audiozen_core.data.loader import BatchLoader
from audiozen_core.experiment.initial_weights import LoadedWeights
from audiozen_core.experiment.trial import Trial
from audiozen_core.kinds import RunMode
from audiozen_core.registry.index import installed_index
from audiozen_core.registry.provided_modules import numba_version, providers
from audiozen_core.registry.scope import installed_path


def record(
    checked: CheckedConfig,
    import_from: Sequence[str],
    now: datetime,
    modes: Sequence[RunMode],
    initial_weights: Sequence[LoadedWeights] = (),
    training: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Returns the text of a TOML file that can repeat the run. Comments give versions, commit and command line.

    The comment `plugins` gives the distribution of each component that does not belong to AudioZEN. `without` names the
    plugins that were installed but switched off. `model.init` gives the source of the initial weights, with its hash.
    The argument `training` adds the comments from `training_facts`.

    The experiment's ID and the folders of its own modules are written into `[meta]`, so that the file can repeat the
    run from any folder.
    """
    config = checked.config
    values = copy.deepcopy(checked.composition.values)
    values["meta"] |= {"id": config.id, "import_from": list(import_from)}
    facts = {
        "started": now.isoformat(timespec="seconds"),
        "modes": " ".join(modes),
        "command": shlex.join(sys.argv),
        "file": str(config.file),
        "commit": commit_of(config.file.parent),
        "python": f"{platform.python_version()} on {platform.platform()}",
        "plugins": used_text(checked.scope.used),
        "without": ", ".join(sorted({entry.origin for entry in installed_index().off})),
        **training,
        **{f"{loaded.section}.init": loaded.origin for loaded in initial_weights},
        "versions": ", ".join(f"{name} {version}" for name, version in imported_versions().items()),
    }
    head = "\n".join(f"# {name}: {' '.join(fact.split())}" for name, fact in facts.items() if fact)
    return f"{head}\n\n{emit(values)}"


TRAINING_SAMPLES, PROCESSES, FIRST_BATCHES = "training samples", "processes", "first batches"
"""Comments of a record. Together with the config, they determine which samples each training batch contains."""


def training_facts(loaders: Sequence[BatchLoader], processes: int, trial: Trial | None) -> dict[str, str]:
    """Returns the facts that determine, together with the config, which samples each training batch contains.

    Args:
        loaders: the loader of the training data; empty if the run does not train.
        processes: the number of ranks.
        trial: the trial; None if the run is not a trial.
    """
    if not loaders:
        return {}
    facts = {TRAINING_SAMPLES: "" if loaders[0].size is None else str(loaders[0].size), PROCESSES: str(processes)}
    return facts | ({FIRST_BATCHES: str(trial.batches)} if trial and trial.batches else {})


def code_of(checked: CheckedConfig) -> str:
    """Returns the checksums of the modules that define components or belong to the experiment, one per line.

    Call it within the experiment's `scope`. The ranks of a run compare these checksums.
    """
    targets = [part.target for component in checked.components.values() for part in component.walk()]
    used = {getattr(target, "__module__", None) for target in targets}
    own_folders = tuple(f"{folder}{os.sep}" for folder in checked.scope.dirs)
    lines = []
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith(".py") and (name in used or file.startswith(own_folders)):
            with suppress(OSError):
                lines.append(f"{name} {zlib.crc32(Path(file).read_bytes()):08x}")
    return "\n".join(lines)


def imported_versions() -> dict[str, str]:
    """Returns the version of every distribution with an imported module, by name.

    Numba is always included, because kernels that use numba may round differently, although numba is imported only at
    the first step. If numba is not installed, its version is "none".
    """
    imported = {name.partition(".")[0] for name in sys.modules}
    versions = providers(imported, installed_path()) | {"numba": numba_version()}
    return dict(sorted(versions.items(), key=lambda item: item[0].lower()))


def commit_of(folder: Path) -> str:
    """Returns the git commit of a folder, with the number of changed files; "" if the folder is not in a repository."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no").splitlines()
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit}, with uncommitted changes in {len(changed)} files" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
