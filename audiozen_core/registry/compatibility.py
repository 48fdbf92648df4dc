"""Whether a distribution was made for this AudioZEN, by the `Requires-Dist` of its metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable

_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*\(?(?P<versions>[^;()]*)\)?\s*(?:;(?P<marker>.*))?"
)
_CLAUSE = re.compile(r"(?P<operator>===|==|!=|<=|>=|~=|<|>)\s*v?(?P<version>[0-9][^\s]*)")
_VERSION = re.compile(
    r"(?:\d+!)?(?P<release>\d+(?:\.\d+)*)[._-]?(?P<stage>(?:a|b|c|rc|alpha|beta|pre|dev)[._-]?\d*)?"
    r"(?P<more>[^*]*)(?P<star>\.\*)?"
)

Version = tuple[tuple[int, ...], int]
"""The numbers of a release without the zeros at its end, and 0 for one before the release (`1.0rc1`), else 1."""


def wanted_versions(requirements: Iterable[str], distribution: str) -> str:
    """The versions of a distribution that the requirements ask for, "" where they leave it open.

    Args:
        requirements: the values of `Requires-Dist`. What belongs to an extra is passed over.
        distribution: the normalised name.

    >>> wanted_versions(["torch>=2", "audiozen[metrics]>=0.1,<0.2", "audiozen<9; extra == 'old'"], "audiozen")
    '>=0.1,<0.2'
    """
    found = []
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement.strip())
        if match is None or "extra" in (match["marker"] or ""):
            continue
        if re.sub(r"[-_.]+", "-", match["name"]).lower() == distribution:
            found.append(match["versions"].replace(" ", "").strip(","))
    return ",".join(filter(None, found))


def admits(versions: str, version: str) -> bool:
    """Whether a version is one of those asked for. What can't be read admits everything.

    Args:
        versions: clauses as in `Requires-Dist`, such as `>=0.1,<0.2`.
        version: the installed one.

    >>> admits(">=0.1,<0.2", "0.1.7"), admits("~=1.4", "2.0"), admits("==0.1.*", "0.1.3")
    (True, False, True)
    """
    clauses = [_CLAUSE.fullmatch(clause.strip()) for clause in versions.split(",")]
    return all(_holds(clause["operator"], version, clause["version"]) for clause in clauses if clause)


def _holds(operator: str, installed: str, wanted: str) -> bool:
    if operator == "===":
        return installed == wanted
    match = _VERSION.fullmatch(wanted)
    if not match:
        return True
    have, want = _key(installed), _key(wanted)
    if match["star"]:
        numbers = _numbers(match["release"])
        same = _padded(installed, len(numbers)) == numbers
        return same is (operator == "==")
    if operator == "~=":
        prefix = _numbers(match["release"])[:-1]
        return have >= want and _padded(installed, len(prefix)) == prefix
    return {
        "==": have == want,
        "!=": have != want,
        "<=": have <= want,
        ">=": have >= want,
        # A release candidate of 0.2 is not before 0.2 in the sense of `<0.2`.
        "<": have < want and (have[0] != want[0] or want[1] == 0),
        ">": have > want,
    }[operator]


def _key(version: str) -> Version:
    match = _VERSION.match(version)
    if not match:
        return ((), 1)
    numbers = _numbers(match["release"])
    while numbers and numbers[-1] == 0:
        numbers = numbers[:-1]
    before = bool(match["stage"]) or (match["more"] or "").startswith(".dev")
    return numbers, 0 if before else 1


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def _padded(version: str, length: int) -> tuple[int, ...]:
    match = _VERSION.match(version)
    numbers = _numbers(match["release"]) if match else ()
    return (*numbers, *(0,) * length)[:length]
