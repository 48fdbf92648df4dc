"""The versions of AudioZEN that a plugin requires."""
# ruff: noqa: F811 - fixtures

import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

import audiozen_core
from audiozen_core.registry.compatibility import admits, wanted_versions
from audiozen_core.registry.index import installed_index
from tests.installed import install, site  # noqa: F401 - fixtures


@pytest.mark.parametrize(
    ("versions", "version", "admitted"),
    [
        (">=0.1,<0.2", "0.1.7", True),
        (">=0.1,<0.2", "0.2", False),
        (">=0.1,<0.2", "0.2rc1", False),  # pip excludes release candidates of 0.2 too
        (">=0.2", "0.2.dev1", False),
        (">=0.1", "0.2.dev1", True),  # development versions are admitted
        ("==0.1.*", "0.1.3", True),
        ("~=1.4", "2.0", False),
        ("!=0.1.3", "0.1.3", False),
    ],
)
def test_admits_follows_the_rules_of_pip(versions, version, admitted):
    assert admits(versions, version) is admitted


OTHER_PYTHON = f"python_version < '{sys.version_info.major}.{sys.version_info.minor}'"


@pytest.mark.parametrize(
    ("requirement", "versions"),
    [
        ("audiozen", ""),
        ("audiozen>=0.1", ">=0.1"),
        ("AudioZEN (>=0.1, <0.2)", "<0.2,>=0.1"),
        ("audiozen[metrics] ~= 0.1 ; python_version >= '3.10'", "~=0.1"),
        (f"audiozen<0.1; {OTHER_PYTHON}", ""),
        ("audiozen<0.1; extra == 'old'", ""),
        ("audiozen<0.1; python_version >= '3' and extra == 'old'", ""),
        ("audiozen<0.1; python_version >= '3' or extra == 'old'", "<0.1"),
        ("audiozen===0.1-local", "===0.1-local"),
        ("audiozen @ https://example.org/a.whl", ""),
    ],
)
def test_requirement_on_audiozen_is_read_in_every_syntax(install, requirement, versions):
    install("acme", {}, requires=requirement, model={"net": "acme:Net"})
    assert installed_index().find("acme:net").requires == versions


def test_several_requirements_on_audiozen_are_combined(install):
    install(
        "acme", {}, requires="torch>=2\nRequires-Dist: audiozen>=0.1\nRequires-Dist: audiozen<7", model={"net": "a:N"}
    )
    assert installed_index().find("acme:net").requires == ">=0.1,<7"


@pytest.mark.parametrize("requirement", ["audiozen-plugin-x==3", "audiozenith<0.1", "torch<2", "", "=", ">=1"])
def test_requirements_on_other_packages_are_ignored(install, requirement):
    install("acme", {}, requires=f"{requirement}\nRequires-Dist: ", model={"net": "acme:Net"})
    assert installed_index().find("acme:net").requires == ""


@pytest.mark.parametrize(
    "requirement",
    [
        "audiozen>=one",
        "audiozen>=",
        "audiozen[",
        "audiozen; python_version",
        "audiozen<0.1; no_such_variable == '1'",
        "audiozen<0.1; python_version ~= 'abc'",
        "audiozen<0.1; 'a' in",
        "audiozen \x00<1",
    ],
)
def test_plugin_with_a_malformed_requirement_is_admitted(install, requirement):
    install("acme", {}, requires=requirement, model={"net": "acme:Net"})
    assert admits(installed_index().find("acme:net").requires, audiozen_core.__version__)


def test_empty_or_malformed_specifier_admits_every_version():
    assert admits("", "0.1.0")
    assert admits(">=one", "0.1.0")


@pytest.mark.parametrize("clauses", [">=0.1,<0.2", ">0.1", "<=0.1", "<0.1", ">=0.1.0", "<=0.1.0", ">0.1.0,<1", ">=7"])
@pytest.mark.parametrize("version", ["0.1", "0.1.0", "0.1.7", "0.2", "0.2.0", "0.10", "1", "7.0.0", "10.0"])
def test_plain_clauses_are_compared_as_packaging_does(clauses, version):
    assert admits(clauses, version) == SpecifierSet(clauses).contains(version)
    assert wanted_versions([f"audiozen{clauses}"]) == str(SpecifierSet(clauses))


@given(
    st.from_regex(r"[aZ0._-]{1,3}(>=|<=|>|<)[0-9.]{1,3}(,<[0-9.]{1,3})?", fullmatch=True),
    st.sampled_from(["", *" -_.;,()\n\t=["]),
    st.integers(0, 9),
)
@example("-audiozen>=1", "", 0)
@example("audiozen>=0.1", " ", 4)
@example("a_>=1", "", 0)
@example("a>=1", "\n", 4)
@example("a<00,<0", "", 0)
@settings(deadline=None)
def test_requirements_are_parsed_as_packaging_does(requirement, inserted, place):
    text = requirement[:place] + inserted + requirement[place:]
    try:
        versions = Requirement(text).specifier
    except InvalidRequirement:
        versions = SpecifierSet("")
    # `packaging` takes `<0` and `<00` for the same clause.
    assert SpecifierSet(wanted_versions([text])) == versions
