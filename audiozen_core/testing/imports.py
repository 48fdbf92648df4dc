"""Checks the side effects of an import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

from audiozen_core.registry.scope import installed_path

# The child process compares its state before and after the import. It imports torch and AudioZEN first, as every run
# does.
_CHILD = """
import json, logging, os, random, sys, threading, time
sys.path[:] = json.loads(sys.argv[2])
import numpy, torch, audiozen_core.experiment.experiment
from audiozen_core.registry.process_state import read_process_state, restore_process_state
def others():
    return {
        "files in the working directory": sorted(os.listdir()),
        "sys.path": list(sys.path),
        "the handlers of the root logger": [str(handler) for handler in logging.getLogger().handlers],
        "the level of the root logger": logging.getLogger().level,
        "threads": sorted(thread.name for thread in threading.enumerate()),
    }
before, others_before = read_process_state(), others()
start = time.process_time()
__import__(sys.argv[1])
seconds = time.process_time() - start
others_after = others()
changed = [
    *restore_process_state(before),
    *(name for name in others_before if others_before[name] != others_after[name]),
]
print("\\x00" + json.dumps({"seconds": seconds, "changed": changed}), file=sys.__stderr__)
"""


def check_import(module: str, *, seconds: float = 2.0) -> None:
    """Checks that a module is imported quickly, prints nothing, and changes no global state.

    The import must not change the environment, the locale, the working directory and its files, `sys.path`, the filters
    of warnings, the root logger, threads, signal handlers, random numbers, or torch's global settings. A library may
    set environment variables that only it reads, and filters for its own warnings.

    Args:
        module: the dotted name.
        seconds: the CPU time that the import may take, without the imports of torch and AudioZEN.

    Raises:
        AssertionError: the import prints or changes something, or takes too long.
    """
    path = [os.path.abspath(entry) for entry in installed_path()]  # noqa: PTH100 - the child has another working directory
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, module, json.dumps(path)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            # Bytecode files are allowed.
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
    printed, end_of_output, answer = done.stderr.partition("\x00")
    assert end_of_output, f"the import of {module} fails:\n{printed}"
    facts = json.loads(answer)
    assert not done.stdout, f"the import of {module} prints {done.stdout!r}"
    assert not facts["changed"], f"the import of {module} changes {', '.join(facts['changed'])}"
    assert facts["seconds"] <= seconds, f"the import of {module} takes {facts['seconds']:.1f} s, more than {seconds:g}"
