"""`${…}` is replaced by another value, an environment variable, or the folder of the file."""

import pytest

from audiozen_core.config.compose import compose
from audiozen_core.config.toml.emit import emit
from audiozen_core.config.toml.interpolation import split_references
from audiozen_core.diagnostics.toml_text import escape_references


@pytest.fixture
def values(tmp_path):
    def values(text, *overrides, **environment):
        file = tmp_path / "exp.toml"
        file.write_text(text, encoding="utf-8")
        composition = compose(file, overrides, environment)
        assert composition.findings == []
        return composition.values

    return values


@pytest.fixture
def findings(tmp_path):
    def findings(text, **environment):
        file = tmp_path / "exp.toml"
        file.write_text(text, encoding="utf-8")
        return compose(file, (), environment).findings

    return findings


@pytest.mark.parametrize("value", ["16000", "0.5", "true", "'x'", "[1, 2]", "{a = [1]}", "2026-11-22", "07:32:00"])
def test_reference_that_is_the_whole_value_keeps_the_type(values, value):
    result = values(f"[a]\nx = {value}\ny = '${{a.x}}'\nz = ['${{ a.x }}']\n")["a"]
    assert result["y"] == result["x"] == result["z"][0]
    assert type(result["y"]) is type(result["x"])


def test_reference_inside_a_string_becomes_text(values):
    result = values("[a]\nx = 3\nb = true\nd = 2026-11-22\ny = '${a.x}-${a.b}-${a.d}${a.x}'\n")
    assert result["a"]["y"] == "3-true-2026-11-223"


def test_table_from_a_reference_is_an_independent_copy(values):
    result = values("[a]\nx = {p = [1]}\ny = '${a.x}'\n", "+a.y2=${a.x}")
    assert result["a"]["y"] == {"p": [1]}
    assert result["a"]["y"]["p"] is not result["a"]["x"]["p"] is not result["a"]["y2"]["p"]


def test_reference_may_point_to_other_references_in_any_order(values):
    text = "[a]\nz = '${a.y}/z'\ny = '${a.x}/y'\nx = 'x'\nw = '${a.t.u.v}'\nt = '${a.s}'\n[a.s.u]\nv = '${a.x}'\n"
    result = values(text)["a"]
    assert (result["z"], result["w"], result["t"]) == ("x/y/z", "x", {"u": {"v": "x"}})


def test_reference_may_point_to_array_entries_and_quoted_keys(values):
    result = values("[a]\nx = [{k = 1}]\n'my key' = 2\ny = '${a.x.0.k}${a.x[0].k}${a.\"my key\"}'\n")
    assert result["a"]["y"] == "112"


def test_reference_may_point_to_the_default_of_a_known_section(values):
    result = values("[a]\nsr = '${acoustics.sr}'\nseed = '${meta.seed}'\n[acoustics]\nn_fft = 256\n")
    assert result["a"] == {"sr": 16000, "seed": 0}


def test_reference_may_use_the_alias_of_a_section(values):
    assert values("[dataset]\nargs.root = 1\n[a]\nx = '${train_dataset.args.root}'\n")["a"]["x"] == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${env:ROOT}", "/data"),
        ("${env:ROOT}/clean", "/data/clean"),
        ("${env:ROOT:-/other}", "/data"),
        ("${env:NONE:-/other}", "/other"),
        ("${env:EMPTY:-/other}", "/other"),
        ("${env:EMPTY}", ""),
        ("${env:NONE:-}", ""),
        ("${env:NUMBER}", 8),
        ("${env:NONE:-4}", 4),
        ("${env:NONE:-1e-3}", 1e-3),
        ("${env:NONE:-true}", True),
        ("${env:NONE:-'4'}", "4"),
        ("${env:NONE:-2026-11-22}", "2026-11-22"),
        ("${env:NONE:-[1]}", "[1]"),
        ("x${env:NUMBER}", "x8"),
        ("${env:NONE:-${env:ROOT}/x}", "/data/x"),
        ("${env:NONE:-${a.number}}", 3),
        ("$${env:ROOT}", "${env:ROOT}"),
        ("$$${env:ROOT}", "$${env:ROOT}"),
        ("a$b{c}", "a$b{c}"),
    ],
)
def test_environment_variable_is_replaced_by_its_value_or_default(values, text, value):
    literal = '"""' + text.replace("\\", "\\\\") + '"""'
    result = values(f"[a]\nnumber = 3\nx = {literal}\n", ROOT="/data", EMPTY="", NUMBER="8")["a"]["x"]
    assert result == value
    assert type(result) is type(value)


def test_here_is_the_folder_of_the_file_that_contains_it(tmp_path, monkeypatch):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "base.toml").write_text("[a]\nbase = '${here}/x'\n")
    (tmp_path / "exp.toml").write_text("extends = 'shared/base.toml'\n[a]\nown = '${here}'\nthat = '${a.base}'\n")
    monkeypatch.chdir(tmp_path)
    result = compose("exp.toml", ["+a.set=${here}"]).values["a"]
    assert result["base"] == result["that"] == str(tmp_path / "shared" / "x")
    assert result["own"] == result["set"] == str(tmp_path)


def test_copied_table_and_its_entries_have_different_origins(tmp_path):
    (tmp_path / "exp.toml").write_text("[a]\nx = {p = 1}\ny = '${a.x}'\n")
    composition = compose(tmp_path / "exp.toml")
    assert composition.origin(("a", "y")).key_span.line == 3
    assert composition.origin(("a", "y", "p")).key_span.line == 2


# ---------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("value", "column", "message"),
    [
        ("'x ${a.nothing}'", 8, "`${a.nothing}` names a value that does not exist"),
        ("'${acoustics.srr}'", 6, "`${acoustics.srr}` names a value"),
        ("'${meta.save_dir}'", 6, "`${meta.save_dir}` names a value"),
        ("'${a.n.x}'", 6, "`a.n` is not a table"),
        ("'${a.list.3}'", 6, "`${a.list.3}` names a value"),
        ("'${a.list.²}'", 6, "is not a reference"),
        ("'${env:NOTHING}'", 6, "`NOTHING` is not set"),
        ("'${env:}'", 6, "does not name a variable"),
        ("'${env:A-B}'", 6, "does not name a variable"),
        ("'${}'", 6, "is not a reference"),
        ("'${a b}'", 6, "is not a reference"),
        ("'x ${a.n'", 8, "without a closing `}`"),
        ("'x ${a.list}'", 8, "is an array"),
        ("'x ${meta}'", 8, "`${meta}` names a value"),
        ("'${a}'", 6, "form a cycle"),
        ("'${a.x}'", 6, "form a cycle"),
    ],
)
def test_broken_reference_is_reported_at_its_position(findings, value, column, message):
    (finding,) = findings(f"[a]\nn = 1\nlist = [1, 2]\nx = {value}\n")
    assert finding.code in {"AZ133", "AZ134"}
    assert (finding.span.line, finding.span.column) == (4, column)
    assert message in finding.message


def test_finding_suggests_a_similar_key_or_variable(findings):
    reference, variable = findings("[acoustics]\na = '${acoustics.n_ftf}'\nb = '${env:DATA_ROT}'\n", DATA_ROOT="x")
    assert reference.suggestion == "${acoustics.n_fft}"
    assert "DATA_ROOT" in variable.label


def test_circular_references_are_reported_once_with_all_members(findings):
    (finding,) = findings("[a]\nx = '${a.y}'\ny = '${a.z}'\nz = 'z${a.x}'\nlast = '${a.x}'\n")
    assert finding.code == "AZ134"
    assert "`a.x` → `a.y` → `a.z` → `a.x`" in finding.message
    assert finding.span.line == 4


def test_values_that_depend_on_a_broken_reference_are_not_reported(findings):
    assert len(findings("[a]\nx = '${a.nothing}'\ny = '${a.x}'\nz = 'z ${a.y}'\n")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "x0 = {a = 1}\n" + "\n".join(f"x{i} = {{a = '${{x{i - 1}}}'}}" for i in range(1, 200)),
        "\n".join(f"x{i} = '${{x{i + 1}}}'" for i in range(300)) + "\nx300 = 1",
        "x = '" + "${env:A:-" * 2000 + "}" * 2000 + "'",
        "x = '" + "${" * 100_000 + "'",
    ],
    ids=["growing depth", "long chain", "nested defaults", "open braces"],
)
def test_too_deep_chain_of_references_is_reported(findings, text):
    result = findings(text)
    assert {finding.code for finding in result} == {"AZ133"}


@pytest.mark.parametrize("text", ["", "$", "${x}", "$${x}", "$$${", "a ${b} ${", "}{$"])
def test_escaped_text_is_read_back_unchanged(values, text):
    assert split_references(escape_references(text)) == [text]
    assert values(emit({"a": {"x": text}}))["a"]["x"] == text


def test_a_chain_of_references_that_is_too_long_is_one_finding(findings):
    links = "".join(f"r{number} = '${{a.r{number + 1}}}'\n" for number in range(2000))
    (finding,) = findings(f"[a]\n{links}r2000 = 1\n")
    assert finding.message == "this chain of references is too long"
    assert findings(f"[a]\n{links.splitlines()[0]}\nr1 = 1\n") == [], "negative control"


def doubling(first, rest, count=40):
    return f"[a]\nr0 = {first}\n" + "".join(
        f"r{n} = {rest.format(ref='${a.r' + str(n - 1) + '}')}\n" for n in range(1, count)
    )


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        (doubling("'x'", "'{ref}{ref}'"), "100,000 characters"),
        (doubling("'x'", "'${{env:A:-{ref}{ref}}}'"), "100,000 characters"),
        (doubling("[1, 2]", "['{ref}', '{ref}']"), "5,000 entries of arrays and tables"),
        (doubling("{x = 1}", "{{left = '{ref}', right = '{ref}'}}"), "5,000 entries of arrays and tables"),
    ],
    ids=["string", "default of a variable", "array", "table"],
)
def test_references_that_grow_without_bound_are_one_finding(findings, monkeypatch, text, limit):
    """The last value would have 2 ** 39 entries or characters. The limits are lower here, to save time."""
    monkeypatch.setattr("audiozen_core.config.references._MAX_CHARACTERS", 100_000)
    monkeypatch.setattr("audiozen_core.config.references._MAX_ENTRIES", 5_000)
    (finding,) = findings(text)
    assert finding.code == "AZ133"
    assert finding.message.endswith(f"the references of this file expand to more than {limit}")
    assert finding.span.line > 10
    assert finding.notes == ("help: refer to a long value only once; each further reference adds another copy",)


def test_long_values_may_be_used_several_times(values):
    text = f"[a]\nfiles = {list(range(60_000))}\nx = '${{a.files}}'\ny = '${{a.files}}'\nz = '${{a.files}}'\n"
    result = values(text)["a"]
    assert result["x"] == result["y"] == result["z"] == list(range(60_000))
    assert values(doubling("'x'", "'{ref}{ref}'", 20))["a"]["r19"] == "x" * 2**19
