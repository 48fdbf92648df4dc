"""Checks that the distributions in `[meta] requires` are installed."""

from __future__ import annotations

from collections.abc import Iterator

from audiozen_core.config.composition import Composition
from audiozen_core.diagnostics import codes, config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.registry.compatibility import admits
from audiozen_core.registry.index import PluginIndex
from audiozen_core.registry.installed import installed_version, normalised
from audiozen_core.registry.scope import installed_path
from audiozen_core.registry.switched_off import HOW_SWITCHED_OFF, switched_off

_FORM = "help: write it as a name with versions, such as `audiozen-plugin-acme>=0.2,<0.3`"


def requirement_findings(composition: Composition, index: PluginIndex) -> Iterator[Diagnostic]:
    """Yields an error for each requirement that is not met or can't be read.

    Args:
        composition: the values of the file. Entries of `requires` with a wrong type have been reported already.
        index: the installed components, to suggest the name of a distribution.
    """
    meta = composition.values.get("meta")
    requires = meta.get("requires") if isinstance(meta, dict) else None
    for place, text in enumerate(requires if isinstance(requires, list) else ()):
        if isinstance(text, str) and (finding := _finding(text, index)):
            yield composition.placed(finding, ("meta", "requires", place))


def _finding(text: str, index: PluginIndex) -> Diagnostic | None:
    # Imported here, because the import takes time that only experiments with requirements should need.
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        return Diagnostic(config_codes.BAD_VALUE, f"`{text}` is not a requirement: {reason}", notes=(_FORM,))
    if wanted.url or wanted.marker:
        part = "a URL" if wanted.url else "a marker"
        return Diagnostic(config_codes.BAD_VALUE, f"the requirement `{text}` can't have {part}", notes=(_FORM,))
    name = normalised(wanted.name)
    pip = f"help: pip install '{text}'"
    if name in switched_off():
        message = f"`{wanted.name}` is required, but it is {HOW_SWITCHED_OFF}"
        notes = ("help: switch it on, or remove it from `requires`",)
        return Diagnostic(codes.UNMET_REQUIREMENT, message, notes=notes)
    version = installed_version(name, installed_path())
    if version is None:
        label = did_you_mean(nearest(name, {entry.distribution for entry in index}))
        return Diagnostic(
            codes.UNMET_REQUIREMENT, f"`{wanted.name}` is required, but not installed", label=label, notes=(pip,)
        )
    if admits(str(wanted.specifier), version):
        return None
    message = f"`{text}` is required, but {wanted.name} {version} is installed"
    return Diagnostic(codes.UNMET_REQUIREMENT, message, notes=(pip,))
