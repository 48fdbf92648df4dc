"""`python -m audiozen` does what `audiozen` does."""

import runpy
import subprocess
import sys

import pytest

from audiozen_core.cli.main import main


def run_module():
    runpy.run_module("audiozen", run_name="__main__", alter_sys=True)


def outcome(call, arguments, monkeypatch, capsys):
    """Returns the exit code, standard output and standard error."""
    monkeypatch.setattr(sys, "argv", ["audiozen", *arguments])
    with pytest.raises(SystemExit) as stop:
        call()
    return stop.value.code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "code", "printed"),
    [
        (["--help"], 0, "Usage: audiozen [OPTIONS]"),
        (["--version"], 0, "audiozen, version"),
        (["checkpoints", "--help"], 0, "Usage: audiozen checkpoints"),
        (["runn"], 2, "`audiozen --help` lists"),
        (["check", "missing.toml"], 2, "missing.toml"),
    ],
)
def test_module_does_what_the_command_does(arguments, code, printed, monkeypatch, capsys):
    of_module = outcome(run_module, arguments, monkeypatch, capsys)
    assert of_module == outcome(main, arguments, monkeypatch, capsys)
    assert of_module[0] == code
    assert printed in "".join(of_module[1:])


def test_record_of_a_run_says_the_command(project, monkeypatch, capsys):
    assert outcome(run_module, ["run", "tiny.toml", "--set", "trainer.args.max_epochs=1"], monkeypatch, capsys)[0] == 0
    [record] = project.glob("exp/*/config__*.toml")
    assert "audiozen run tiny.toml --set trainer.args.max_epochs=1" in record.read_text()


def test_module_does_not_import_torch_for_help():
    code = (
        "import runpy, sys; sys.argv = ['audiozen', '--help']\n"
        "try: runpy.run_module('audiozen', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert not {'torch', 'numpy', 'audiozen_plugins'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: audiozen [OPTIONS]")
