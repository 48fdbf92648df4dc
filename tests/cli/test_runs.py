"""`audiozen runs`."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import get_args

import pytest

from audiozen_core.cli.runs import command
from audiozen_core.experiment.lock import run_lock
from audiozen_core.runs.forms import FORMS
from audiozen_core.runs.listing import ORDERS
from audiozen_core.runs.summary import RunState


@pytest.fixture
def ran(audiozen, project):
    assert audiozen("run", "tiny.toml").code == 0
    return project


def test_table_json_and_states(audiozen, ran):
    outcome = audiozen("runs", "exp")
    assert outcome.code == 0
    heading, row, _, note = outcome.out.splitlines()
    assert heading.split() == ["run", "state", "epoch", "best", "at", "last", "test", "time", "written"]
    assert row.split()[:3] == ["tiny", "finished", "2/2"]
    assert note == "1 run: 1 finished; best and last: score"
    with run_lock(ran / "exp/tiny"):
        (run,) = json.loads(audiozen("runs", "exp", "--format", "json", "--state", "running").out)
        assert (run["run"], run["state"]) == ("tiny", "running")
    assert json.loads(audiozen("runs", "exp", "--format", "json", "--state", "running").out) == []
    assert audiozen("runs", "exp", "--format", "csv").out.startswith("run,state,reason,")


def test_folder_without_runs_and_wrong_options_are_errors(audiozen, project):
    outcome = audiozen("runs", "data")
    assert outcome.code == 2
    assert "no runs in `data`" in outcome.err
    assert "run.lock" in outcome.err
    assert audiozen("runs").code == 2
    outcome = audiozen("runs", "data", "--watch")
    assert outcome.code == 2
    assert "terminal" in outcome.err


def test_list_does_not_import_torch(ran):
    code = "import sys\nfrom audiozen_core.cli.main import main\nsys.argv = ['audiozen', 'runs', 'exp']\n"
    code += "try: main()\nexcept SystemExit as stop: assert not stop.code\n"
    code += "assert not {'torch', 'numpy', 'audiozen_plugins'} & sys.modules.keys(), sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ran)


def test_watch_draws_in_place_and_ends_with_ctrl_c(ran):
    pty = pytest.importorskip("pty")
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "audiozen", "runs", "exp", "--watch"]
    # A job in the background ignores Ctrl-C, and so would what it starts. A handler of ours is not passed on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, cwd=ran, stdin=terminal, stdout=terminal, stderr=terminal)
    finally:
        signal.signal(signal.SIGINT, before)
    os.close(terminal)
    shown = b""

    def read_until(text):
        nonlocal shown
        end = time.monotonic() + 60
        while text not in shown and time.monotonic() < end:
            if select.select([main], [], [], 1)[0]:
                try:
                    shown += os.read(main, 4096)
                except OSError:  # the process has ended
                    break
        assert text in shown, shown

    read_until(b"1 finished")
    assert shown.startswith(b"\x1b[?1049h")
    process.send_signal(signal.SIGINT)
    read_until(b"\x1b[?1049l")
    assert process.wait(30) == 0
    os.close(main)
    assert b"Traceback" not in shown
    assert b"interrupted" not in shown


def test_the_choices_are_those_of_the_listing():
    choices = {option.name: tuple(option.type.choices) for option in command.params if hasattr(option.type, "choices")}
    assert choices == {"order": ORDERS, "states": get_args(RunState), "form": FORMS}
