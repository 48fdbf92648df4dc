"""Which versions of AudioZEN a distribution asks for, by the `Requires-Dist` of its metadata.

`packaging` does the reading. Its import takes about as long as `audiozen --help`, so it happens within the functions,
and only when a distribution asks for something.
"""

from __future__ import annotations

from collections.abc import Iterable


def wanted_versions(requirements: Iterable[str]) -> str:
    """The versions that requirements on one distribution ask for, such as `<0.2,>=0.1`; "" for any.

    A requirement counts if its marker holds on this machine. One that belongs to an extra does not count, and neither
    does one that can't be read: odd metadata must not keep a plugin out.

    >>> wanted_versions(["audiozen[metrics]>=0.1,<0.2", "audiozen<9; extra == 'old'"])
    '<0.2,>=0.1'
    """
    wanted = []
    for text in requirements:
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
    """Whether a version is one of those that the clauses ask for. Clauses that can't be read admit everything.

    A development version or release candidate counts like a release.

    >>> admits(">=0.1,<0.2", "0.1.7"), admits("~=1.4", "2.0"), admits("==0.1.*", "0.1.3")
    (True, False, True)
    """
    if not versions:
        return True
    from packaging.specifiers import SpecifierSet

    try:
        return SpecifierSet(versions).contains(version, prereleases=True)
    except ValueError:
        return True
