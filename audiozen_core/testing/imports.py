"""The check of what an import does besides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

from audiozen_core.registry.scope import installed_path

# Compared before and after the import, in a process of its own. What is there in any run is imported before: torch, and
# AudioZEN itself.
_CHILD = """
import json, logging, os, random, signal, sys, threading, time, warnings
sys.path[:] = json.loads(sys.argv[2])
import numpy, torch, audiozen_core.experiment.experiment
def state():
    return {
        "the environment": dict(os.environ),
        "the working directory": os.getcwd(),
        "files in the working directory": sorted(os.listdir()),
        "sys.path": list(sys.path),
        "the filters of warnings": len(warnings.filters),
        "the handlers of the root logger": [str(handler) for handler in logging.getLogger().handlers],
        "the level of the root logger": logging.getLogger().level,
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "signal handlers": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "Python's random numbers": str(random.getstate()),
        "NumPy's random numbers": str(numpy.random.get_state()),
        "torch's random numbers": torch.get_rng_state().tolist(),
        "torch's default type": str(torch.get_default_dtype()),
        "torch's number of threads": torch.get_num_threads(),
        "whether torch records gradients": torch.is_grad_enabled(),
        "whether torch is deterministic": torch.are_deterministic_algorithms_enabled(),
    }
before = state()
start = time.process_time()
__import__(sys.argv[1])
seconds = time.process_time() - start
after = state()
changed = [name for name in before if before[name] != after[name]]
print("\\x00" + json.dumps({"seconds": seconds, "changed": changed}), file=sys.__stderr__)
"""


def check_import(module: str, *, seconds: float = 2.0) -> None:
    """A module is imported within a budget, prints nothing, and changes nothing that others share.

    It must leave alone: environment, working directory and its files, `sys.path`, filters of warnings, root logger,
    threads, signal handlers, random numbers, and torch's global settings.

    Args:
        module: the dotted name.
        seconds: CPU time that the import may take, that of torch and of AudioZEN left out.

    Raises:
        AssertionError: what it does, or how long it takes.
    """
    path = [os.path.abspath(entry) for entry in installed_path()]  # noqa: PTH100 - the child works elsewhere
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, module, json.dumps(path)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            # Bytecode is not what is meant by files.
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
    said, found, answer = done.stderr.partition("\x00")
    assert found, f"the import of {module} fails:\n{said}"
    facts = json.loads(answer)
    assert not done.stdout, f"the import of {module} prints {done.stdout!r}"
    assert not facts["changed"], f"the import of {module} changes {', '.join(facts['changed'])}"
    assert facts["seconds"] <= seconds, f"the import of {module} takes {facts['seconds']:.1f} s, more than {seconds:g}"
