"""Loading any text ends with findings that have a position. It never raises another exception and never hangs."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.config.overrides import COMMAND_LINE
from audiozen_core.diagnostics.diagnostic import render
from audiozen_core.errors import ConfigError

# These tests run the same lines thousands of times. Measuring the coverage of all runs would double the time.
pytestmark = pytest.mark.no_cover

RECIPES = Path(__file__).resolve().parents[3] / "recipes"

FOLDER = TemporaryDirectory()
FILE = Path(FOLDER.name, "exp.toml")

TEXTS = [
    file.read_text(encoding="utf-8")
    for file in sorted(RECIPES.rglob("*.toml"))
    if "exp" not in file.relative_to(RECIPES).parts
] + [
    # Syntax that the recipes rarely use.
    """\
extends = "base.toml"
meta = { save_dir = '${here}/exp', "seed" = 0x10 }
[[validate_dataset]]
path = "a.B" # é漢
args = { root = '${env:HOME:-/data}', list = [ 1, [2, "x"], { path = "c.D" } ] }
dataloader.collate_fn = "e.f"
[[validate_dataset]]
[validate_dataset.args]
text = \"\"\"
many \\
  lines \"\"\"
when = 1979-05-27T07:32:00Z
[model_g]
path = "a.B"
[model_g.args.encoder]
path = "x.Y"
args.depth = '${acoustics.n_fft}'
[[hooks]]
path = "patience"
enabled = false
"""
]
PIECES = st.sampled_from(
    [
        *(
            "[",
            "]",
            "[[",
            "]]",
            "{",
            "}",
            "=",
            ".",
            ",",
            '"',
            "'",
            '"""',
            "'''",
            "#",
            "\\",
            "\n",
            "\r\n",
            "\r",
            "\t",
            "\0",
        ),
        *("\u2028", "\ufeff", "é", "🎧", "${", "$${", "}", "${here}", "${meta.seed}", "${env:X:-", "true", "nan", "-0"),
        *("1e400", "0x", "1979-05-27 07:32:00", "extends = 'exp.toml'\n", "path", "args", "[model]", "[loss]"),
        *("[[dataset]]\n", "[dataset.args]\n", "max_epoch = 1\n", "a.b.c = 1\n", "x = {path = 'y'}\n", "path = 3\n"),
    ]
)


@st.composite
def mutations(draw):
    """Returns the text of a recipe with some parts deleted, inserted, duplicated or moved."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 30)))
        lines = text.split("\n")
        kind = draw(st.sampled_from(["cut", "put", "replace", "double", "swap", "drop line", "truncate"]))
        if kind == "cut":
            text = text[:start] + text[end:]
        elif kind == "put":
            text = text[:start] + draw(PIECES) + text[start:]
        elif kind == "replace":
            text = text[:start] + draw(PIECES) + text[end:]
        elif kind == "double":
            text = text[:end] + text[start:end] + text[end:]
        elif kind == "swap":
            one, other = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
            lines[one], lines[other] = lines[other], lines[one]
            text = "\n".join(lines)
        elif kind == "drop line":
            del lines[draw(st.integers(0, len(lines) - 1))]
            text = "\n".join(lines)
        else:
            text = text[:start]
    return text


OVERRIDES = st.lists(
    st.one_of(
        st.lists(st.one_of(PIECES, st.sampled_from(["meta.seed", "model", ".args", "+", "=3", "[0]"])), max_size=6).map(
            "".join
        ),
        st.text(max_size=12),
    ),
    max_size=3,
)


def assert_well_formed(findings, content, overrides):
    """Asserts that each finding has a known severity and a position inside the text, and can be rendered."""
    text = content.decode("utf-8", "replace").replace("\r\n", "\n").removeprefix("\ufeff")
    lines = {FILE: text.split("\n"), COMMAND_LINE: "\n".join(overrides).split("\n")}
    for finding in findings:
        assert finding.message
        assert render(finding).startswith(("error[AZ", "warning[AZ"))
        if span := finding.span:
            assert finding.source == lines[span.file][span.line - 1]
            assert 1 <= span.column <= len(finding.source) + 1
            assert (span.line, span.column) <= (span.end_line, span.end_column)


def read(content, overrides=(), *, components=False):
    """Returns the configuration, or None if there are errors."""
    FILE.write_bytes(content)
    try:
        loaded = load_config(FILE, overrides, environment={})
        assert_well_formed(loaded.findings, content, overrides)
        if components:
            assert_well_formed(check_config(loaded).warnings, content, overrides)
        return loaded.config
    except ConfigError as error:
        findings = error.diagnostics
    assert any(finding.severity == "error" for finding in findings)
    assert_well_formed(findings, content, overrides)
    return None


QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
THOROUGH = settings(QUICK, max_examples=10_000)


@QUICK
@given(mutations(), OVERRIDES)
@example(TEXTS[-1], [])
def test_loading_a_mutated_recipe_raises_no_other_exception(text, overrides):
    read(text.encode("utf-8", "surrogatepass"), overrides)


@settings(QUICK, max_examples=60)
@given(mutations())
def test_checking_the_components_of_a_mutated_recipe_raises_no_other_exception(text):
    read(text.encode("utf-8", "surrogatepass"), components=True)


@QUICK
@given(st.binary(max_size=60))
def test_loading_random_bytes_raises_no_other_exception(content):
    read(content)


@pytest.mark.slow
@THOROUGH
@given(mutations(), OVERRIDES)
def test_loading_ten_thousand_mutated_recipes_raises_no_other_exception(text, overrides):
    read(text.encode("utf-8", "surrogatepass"), overrides)


def test_recipes_have_no_errors_before_mutation():
    for text in TEXTS[:-1]:
        assert read(text.encode()) is not None


HUGE = {
    "unknown keys": "[meta]\n" + "".join(f"key_{number} = 1\n" for number in range(1_500)),
    "unknown sections": "".join(f"[section_{number}]\n" for number in range(1_500)),
    "one long line": "x = '" + "a" * 450_000 + "'",
    "a long key": "a" * 450_000 + " = 1",
    "a long number": "x = 0x" + "1" * 450_000,
    "an unclosed string": '"' * 499_999,
    "an unclosed table": "x = {a" * 80_000,
    "escapes": 'x = "' + "\\n" * 200_000,
    "open brackets": "x = " + "[" * 450_000,
    "many entries": "x = [" + "1, " * 20_000 + "]",
    "arrays of tables": "[[hooks]]\n" * 5_000,
    "dots": "a" + ".a" * 200_000 + " = 1",
    "references": "[a]\nt = [1, 2, 3]\n" + "".join(f"k{number} = '${{a.t}}'\n" for number in range(5_000)),
    "broken references": "[a]\n" + "".join(f"k{number} = '${{a.t{number}}}'\n" for number in range(200)),
    "blanks": " " * 400_000 + "\n" * 90_000 + "x",
    "comments": "#" * 450_000,
    "one repeated key": "a = 1\n" * 20_000,
}


@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE.keys())
def test_loading_a_huge_file_ends_with_findings(text):
    assert read(text.encode()) is None
