"""The versions that a plugin asks for, held against the library that pip itself uses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from audiozen_core.registry.compatibility import admits, wanted_versions

numbers = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
installed = st.builds(str.__add__, numbers, st.sampled_from(["", "", "rc1", ".dev2", ".post1"]))
clauses = st.one_of(
    st.builds(str.__add__, st.sampled_from([">=", "<=", "==", "!=", "<", ">"]), numbers),
    st.builds(lambda version: f"=={version}.*", numbers),
    st.builds(lambda version: f"~={version}.1", numbers),
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(installed, st.lists(clauses, min_size=1, max_size=3).map(",".join))
def test_a_version_is_admitted_as_pip_would(version, versions):
    # A post-release differs from its release in the eyes of pip; plugins are not made for one.
    plain = Version(version).public.partition(".post")[0]
    assert admits(versions, plain) == SpecifierSet(versions).contains(plain, prereleases=True)


@pytest.mark.parametrize(
    ("requirement", "versions"),
    [
        ("audiozen", ""),
        ("audiozen>=0.1", ">=0.1"),
        ("AudioZEN (>=0.1, <0.2)", ">=0.1,<0.2"),
        ("audiozen[metrics] ~= 0.1 ; python_version >= '3.10'", "~=0.1"),
        ("audiozen<0.1; extra == 'old'", ""),
        ("audiozen-plugin-x==3", ""),
    ],
)
def test_a_requirement_is_read_in_every_form(requirement, versions):
    assert wanted_versions(["torch>=2", requirement], "audiozen") == versions


def test_what_cannot_be_read_stops_nobody():
    assert admits("", "0.1.0")
    assert admits(">=one", "0.1.0")
    assert admits("@ https://example.org/a.whl", "0.1.0")
