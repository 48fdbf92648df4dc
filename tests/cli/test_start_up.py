"""What the commands import: the time of a start is that of its imports. Modules are counted, because clocks depend."""

import json
import subprocess
import sys

import pytest

CALL = """
import contextlib, io, json, sys
def audiozen(*arguments):
    from audiozen_core.cli.main import main
    sys.argv = ["audiozen", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.suppress(SystemExit):
        main()
    return output.getvalue()
def imported(before):
    return sorted(set(sys.modules) - before)
def foreign(before):
    "The packages of other people among the new modules. tomli is compiled, and has a second module."
    tops = {name.partition(".")[0] for name in imported(before)} - before - sys.stdlib_module_names
    return sorted(top for top in tops if not top.endswith("__mypyc") and top.strip("_") not in sys.stdlib_module_names)
start = set(sys.modules)
"""
NO_TORCH = """\
[meta]
save_dir = 3
seed = "one"
[trainor]
path = "enhancement"
[trainer]
path = "enhancment"
args.max_epochs = 2
[hooks]
"""
HINT_OF_TORCH = NO_TORCH + '[optimizer]\npath = "radam"\n'


def in_new_process(code, folder):
    done = subprocess.run([sys.executable, "-c", CALL + code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("arguments", "foreign", "most"),
    [
        (["--help"], ["audiozen_core", "click"], 100),
        (["plugins"], ["audiozen_core", "click"], 100),
        (["check", "wrong.toml"], ["audiozen_core", "click", "pluggy", "tomli"], 215),
    ],
)
def test_command_imports_exactly_these_packages(arguments, foreign, most, tmp_path):
    (tmp_path / "wrong.toml").write_text(NO_TORCH)
    code = f"audiozen(*{arguments}); print(json.dumps([foreign(start), imported(start)]))"
    found, modules = in_new_process(code, tmp_path)
    assert found == foreign
    assert 60 < len(modules) < most, modules


def test_check_imports_torch_only_where_needed_and_says_the_same_with_it(tmp_path, project):
    (tmp_path / "wrong.toml").write_text(NO_TORCH)
    (tmp_path / "hint.toml").write_text(HINT_OF_TORCH)
    (tmp_path / "syntax.toml").write_text("[meta\n")
    code = f"""
def findings(name):
    return audiozen("check", name, "--format", "json")
without = [findings("wrong.toml"), findings("syntax.toml")]
needed = "torch" in sys.modules
without.append(findings("hint.toml"))
needed_for_hint = "torch" in sys.modules
import torch
with_torch = [findings("wrong.toml"), findings("syntax.toml"), findings("hint.toml")]
before = set(sys.modules)
output = audiozen("check", {str(project / "tiny.toml")!r})
print(json.dumps([without, with_torch, needed, needed_for_hint, output, foreign(before)]))
"""
    without, with_torch, needed, needed_for_hint, output, foreign = in_new_process(code, tmp_path)
    assert (needed, needed_for_hint) == (False, True)
    assert without == with_torch
    assert [len(json.loads(text)) for text in without] == [9, 1, 9]
    assert "torch.optim.RAdam" in without[2]
    assert "no mistakes found" in output
    # Neither rich nor structlog, PIL, SciPy, torchaudio or matplotlib. Names with "_" are compiled parts of the others.
    assert [name for name in foreign if "_" not in name.replace("audiozen_", "")] == [
        "audiozen_plugins",
        "soundfile",
        "xxhash",
    ]
