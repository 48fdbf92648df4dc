"""Finds the versions of AudioZEN that a distribution requires, from its metadata (`Requires-Dist`).

Requirements in the form that most build tools write, such as `audiozen>=0.1,<0.2`, are parsed here. All others are
parsed with `packaging`, whose import would make the start of `audiozen plugins` noticeably slower.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_CLAUSES = r"(?:>=|<=|>|<)[0-9]+(?:\.[0-9]+)*(?:,(?:>=|<=|>|<)[0-9]+(?:\.[0-9]+)*)*"
_PLAIN_REQUIREMENT = re.compile(rf"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?({_CLAUSES})")
_CLAUSE = re.compile(r"(>=|<=|>|<)([0-9.]+)")


def wanted_versions(requirements: Iterable[str]) -> str:
    """Returns the versions that several requirements on a distribution allow, such as `<0.2,>=0.1`; "" for any version.

    A requirement is ignored if its marker is false on this machine, or if it belongs to an extra. A requirement that
    can't be parsed is ignored too, because a plugin with unusual metadata must still work.

    >>> wanted_versions(["audiozen[metrics]>=0.1,<0.2", "audiozen<9; extra == 'old'"])
    '<0.2,>=0.1'
    """
    wanted = []
    for text in requirements:
        if plain := _PLAIN_REQUIREMENT.fullmatch(text):
            wanted.append(",".join(sorted(plain[1].split(","))))
            continue
        from packaging.requirements import Requirement

        try:
            requirement = Requirement(text)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        except ValueError:
            continue
        if applies and requirement.specifier:
            wanted.append(str(requirement.specifier))
    return ",".join(wanted)


def admits(versions: str, version: str) -> bool:
    """Returns whether the clauses in `versions` allow a version. Invalid clauses allow all versions.

    A development version or a release candidate is treated like a release.

    >>> admits(">=0.1,<0.2", "0.1.7"), admits("~=1.4", "2.0"), admits("==0.1.*", "0.1.3")
    (True, False, True)
    """
    if not versions:
        return True
    if re.fullmatch(_CLAUSES, versions) and re.fullmatch(r"[0-9]+(\.[0-9]+)*", version):
        return all(
            _holds(operator, _numbers(version), _numbers(bound)) for operator, bound in _CLAUSE.findall(versions)
        )
    from packaging.specifiers import SpecifierSet

    try:
        return SpecifierSet(versions).contains(version, prereleases=True)
    except ValueError:
        return True


def _holds(operator: str, version: list[int], bound: list[int]) -> bool:
    """Returns whether a comparison such as `version >= bound` is true."""
    if version == bound:
        return "=" in operator
    return (version > bound) == (operator[0] == ">")


def _numbers(version: str) -> list[int]:
    """Returns the numbers of a version without trailing zeros, because 1.0 equals 1."""
    return [int(number) for number in re.sub(r"(\.0+)+$", "", version).split(".")]
