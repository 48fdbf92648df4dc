"""The tables of `evaluate` and `compare` are compiled by LaTeX, where it is installed."""

import shutil
import subprocess

import pytest

from audiozen_core.results.compare_systems import compare_systems
from audiozen_core.results.records import FileScores, MetricInfo
from audiozen_core.results.scores import Scores
from audiozen_core.results.systems import ScoredSystem

NASTY = ("a_b & c", "100 % #1", r"{x}~^\$", "[0]", "*", "-5")
"""Names of conditions and systems that LaTeX would take for commands."""
METRICS = (MetricInfo("lsd_1", "LSD_1 & 5 %", "dB", False, "computed_by 50 % #1"), MetricInfo("mos"))


def scores(shift):
    files = [
        FileScores(f"f_{number}", {"lsd_1": number + shift, "mos": shift - 2.0}, {"kind_of": NASTY[number % 6]})
        for number in range(24)
    ]
    return Scores(METRICS, tuple(files), ("kind_of",))


def tables():
    """Returns each kind of table of both commands."""
    evaluated = scores(0.0)
    kinds = {file.id: str(file.conditions["kind_of"]) for file in evaluated.files}
    systems = [ScoredSystem(name, (scores(0.1 * place),)) for place, name in enumerate(NASTY)]
    return [
        evaluated.table("latex"),
        Scores(METRICS, evaluated.files).table("latex"),
        compare_systems(systems).table("latex", intervals=True),
        compare_systems(systems, conditions={"kind_of": kinds}).table("latex"),
    ]


def compiled(folder, bodies):
    """Compiles a document, and returns the exit code and the log."""
    parts = [
        r"\documentclass{article}",
        r"\usepackage[a1paper]{geometry}\usepackage{booktabs}\begin{document}",
        "\n\n".join(bodies),
        r"\end{document}",
    ]
    (folder / "all.tex").write_text("\n".join(parts) + "\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    return done.returncode, done.stdout


def test_rows_that_begin_with_a_bracket_or_an_asterisk_are_no_arguments_of_the_line_break_before():
    lines = tables()[0].splitlines()
    starts = [line for line in lines if line.startswith(("{}[0]", "{}*"))]
    assert len(starts) == 2
    assert not [line for line in lines if line.startswith(("[", "*"))]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_the_tables_of_both_commands(tmp_path):
    bodies = tables()
    code, log = compiled(tmp_path, bodies)
    assert code == 0, log[-2000:]
    assert "Missing character" not in log
    # Negative control: a name that is not escaped.
    broken = [bodies[0].replace(r"a\_b \& c", "a_b & c")]
    assert broken != bodies[:1]
    assert compiled(tmp_path, broken)[0] != 0
