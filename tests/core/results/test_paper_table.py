"""Tables for papers: what is bold, which marks there are, and whether LaTeX can read them."""

import re

import numpy as np
import pytest
from rich.cells import cell_len

from audiozen_core.results.compare_systems import compare_systems
from audiozen_core.results.records import FileScores, MetricInfo
from audiozen_core.results.scores import Scores
from audiozen_core.results.systems import ScoredSystem

METRICS = (
    MetricInfo("si_sdr", "SI-SDR", "dB", True, "", {"path": "x"}),
    MetricInfo("lsd_1", "LSD_1 & 5 %", "", False, "", {"path": "y"}),
)
SHIFTS = {"noisy_1": (-3.0, 0.9), "A & B 100%": (-1.0, 0.8), "{x}~^\\#$": (-1.001, 0.1)}
CONDITIONS = {"snr": {f"f{number}": str(number % 2 * 5) for number in range(20)}}


def run(si_sdr, lsd, seed=0):
    generator = np.random.default_rng(seed)
    files = (
        FileScores(f"f{number}", {"si_sdr": si_sdr + shift, "lsd_1": lsd + shift / 20})
        for number, shift in enumerate(generator.normal(0, 0.5, 20))
    )
    return Scores(METRICS, tuple(files))


def compared(**options):
    systems = [ScoredSystem(name, (run(*shift),)) for name, shift in SHIFTS.items()]
    return compare_systems(systems, **options)


def compile_latex(text):
    """Checks what LaTeX checks: environments, braces, math, the number of cells, and no character that it can't print.

    Returns the rows of cells, as they would be typeset.
    """
    assert re.findall(r"\\begin\{(\w+)\}", text) == ["table", "tabular"]
    assert re.findall(r"\\end\{(\w+)\}", text) == ["tabular", "table"]
    (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", text)
    plain = re.sub(r"\\textbackslash\{\}|\\textasciitilde\{\}|\\textasciicircum\{\}", "", text)
    plain = re.sub(r"\\[&%$#_{}]", "", plain)  # escaped characters print themselves
    assert plain.count("{") == plain.count("}")
    for line in plain.splitlines():
        assert not set("%#~") & set(line), line
        assert line.count("$") % 2 == 0, line
        outside = re.sub(r"\$[^$]*\$", "", line)
        assert not set("_^<>") & set(outside), line
        assert line.isascii(), line
    rows = [line for line in plain.splitlines() if line.endswith("\\\\")]
    for row in rows:
        assert row.count("&") == len(columns) - 1, row
    return [[cell.strip() for cell in row.removesuffix("\\\\").split("&")] for row in rows]


@pytest.mark.parametrize("options", [{}, {"conditions": CONDITIONS}], ids=["all", "by"])
@pytest.mark.parametrize("intervals", [False, True])
def test_latex_compiles_with_names_that_have_special_characters(options, intervals):
    rows = compile_latex(compared(**options).table("latex", intervals=intervals))
    assert len(rows) == 1 + 3 * (3 if options else 1)


def test_name_that_begins_with_a_bracket_is_no_argument_of_the_line_break():
    systems = [ScoredSystem(name, (run(1, 2),)) for name in ("[a]", "*b")]
    lines = compare_systems(systems).table("latex").splitlines()
    assert [line[:4] for line in lines if "a]" in line or "*b" in line][1:] == ["{}[a", "{}*b"]


def test_check_of_latex_finds_what_does_not_compile():
    """The negative control of the check above."""
    good = compared().table("latex")
    for old, new in (
        (r"\_", "_"),
        (r"\&", "&"),
        (r"\%", "%"),
        (r"\midrule", r"\midrule}"),
        ("$-$", "$-"),
        ("$<$", "<"),
    ):
        assert old in good
        with pytest.raises(AssertionError):
            compile_latex(good.replace(old, new))


def test_best_value_is_bold_in_the_direction_of_the_metric_and_equal_digits_are_bold_alike():
    lines = compared().table("markdown").splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[2:4]] == ["SI-SDR in dB ↑", "LSD_1 & 5 % ↓"]
    cells = [[cell.strip() for cell in line.split("|")[2:4]] for line in lines[2:5]]
    bold = [[cell.startswith("**") for cell in row] for row in cells]
    assert bold == [[False, False], [True, False], [True, True]]
    assert cells[1][0].split("**")[1] == cells[2][0].split("**")[1]
    assert cells[1][0].endswith(r"\*\*\*")
    assert not cells[0][0].endswith("*"), "the baseline has no mark"


def test_markdown_is_aligned_with_wide_names():
    systems = [
        ScoredSystem(name, (run(*shift),)) for name, shift in zip(("语音增强", "b"), SHIFTS.values(), strict=False)
    ]
    lines = compare_systems(systems).table("markdown").splitlines()[:4]
    assert {cell_len(line[: line.index("|", 2)]) for line in lines} == {11}


def test_digits_fit_the_metric():
    cells = compared().table("markdown").splitlines()[2].split("|")
    assert re.fullmatch(r"-\d\.\d\d", cells[2].strip())
    assert re.fullmatch(r"0\.\d\d\d", cells[3].strip())


def test_caption_explains_the_marks_and_intervals():
    found = compared()
    caption = found.table("latex", intervals=True).splitlines()[2]
    for words in ("Means over 20 files", "Bold: best mean", r"difference from noisy\_1", "Holm's method for 4 tests",
                  "* p $<$ 0.05", r"95 \% bootstrap interval over files"):  # fmt: skip
        assert words in caption
    assert "[-" not in found.table("latex").replace("$-$", "-")
    assert "[-" in found.table("latex", intervals=True).replace("$-$", "-"), "the negative control"
    assert found.table("markdown").count(r"\* p < 0.05") == 1


def test_seeds_have_their_deviation_in_the_table_and_are_explained():
    systems = [ScoredSystem("a", (run(1, 2),)), ScoredSystem("b", (run(2, 2), run(2.5, 2)))]
    text = compare_systems(systems).table("latex")
    compile_latex(text)
    assert r"$\pm$ 0.35" in text
    assert "standard deviation over seeds (b: 2)" in text
    assert "over files and seeds also excludes zero" in text
