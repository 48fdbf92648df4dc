"""Guesses which section the user meant by an unknown name, which may be misspelt or come from another toolkit.

A section is suggested only if the file can have it: the file must not have the section yet, and a suffix must belong to
a model.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

from audiozen_core.config.composition import Composition
from audiozen_core.config.renamed_keys import current_name
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.diagnostics.suggestions import nearest, similar_names
from audiozen_core.diagnostics.synonyms import fold, meaning
from audiozen_core.kinds import KINDS, SECTIONS, section_name, split_section

_SUFFIXED = [name for name, kind in SECTIONS.items() if kind.suffixed]
# Sections of other toolkits, with the AudioZEN key for the same setting. `_loader` covers sections for data loaders.
_KEYS_MEANT: dict[str, KeyPath] = {
    name: kind.key for kind in KINDS.values() if kind.key for name in (kind.name, kind.key[-1])
}
_LOADER_ENDINGS = ("dataloader", "data_loader", "loader")
# The two networks of a GAN, with their suffixes.
_NETWORKS = {"generator": "g", "discriminator": "d"}


class MeantSections:
    """Suggests sections and keys for the unknown sections of a file.

    Args:
        composition: the values of the file.
        of_plugins: the names of the sections that installed plugins provide.

    Attributes:
        guessed: the sections suggested so far.
    """

    def __init__(self, composition: Composition, of_plugins: Iterable[str] = ()) -> None:
        self.composition = composition
        self.of_plugins = list(of_plugins)
        self.guessed: set[str] = set()

    def in_order(self) -> list[str]:
        """Returns the sections in the order in which to read them: unknown before known, models before others.

        Unknown sections come first, because the section that the user meant must not be reported as missing. Among the
        unknown and among the known sections, models come before optimisers and schedulers, because models determine
        which suffixes are valid.
        """

        def order(name: str) -> tuple[bool, int, bool]:
            kinds = [kind for word in name.split("_") if (kind := _kind(word))]
            return split_section(name) is not None, max(map(_SUFFIXED.index, kinds), default=0), name == "discriminator"

        return sorted(self.composition.values, key=order)

    # ------------------------------------------------------------------------------------------ keys

    def is_part(self, name: str) -> bool:
        """Returns whether other toolkits have a section with this name for what is a single key in AudioZEN."""
        return name in _KEYS_MEANT or name.endswith(_LOADER_ENDINGS)

    def key(self, name: str) -> KeyPath | None:
        """Returns the AudioZEN key for a section of another toolkit; None if the file lacks the section of that key."""
        key = _KEYS_MEANT.get(name) or self._loader(name)
        return key if key and self._is_present(str(key[0])) else None

    def _loader(self, name: str) -> KeyPath | None:
        ending = next(ending for ending in _LOADER_ENDINGS if name.endswith(ending))
        prefix = name.removesuffix(ending).rstrip("_")
        datasets = [section for section, kind in SECTIONS.items() if kind.name == "dataset"]
        name = current_name((), f"{prefix}_dataset" if prefix else "dataset")
        dataset = name if name in datasets else meaning(name, [other for other in datasets if self._is_present(other)])
        return (current_name((), dataset), "dataloader") if dataset else None

    # ------------------------------------------------------------------------------------------ sections

    def section(self, name: str) -> str | None:
        """Returns the section that the user probably meant by an unknown name; None if no section can be suggested."""
        found = self._section(name)
        if found:
            self.guessed.add(found)
        return found

    def existing_section(self, name: str) -> str | None:
        """Returns the section that the user probably meant, if the file already has that section; otherwise None."""
        found = self._swapped(name) or meaning(name, SECTIONS) or next(iter(similar_names(name, SECTIONS, 1)), None)
        found = found and current_name((), found)
        return found if found and self._is_taken(found) else None

    def _section(self, name: str) -> str | None:
        free = [section for section in SECTIONS if self._is_free(section)]
        if found := meaning(name, free):
            return found
        networks = [section_name("model", suffix) for word, suffix in _NETWORKS.items() if word == fold(name)]
        if networks or meaning(name, SECTIONS):
            return next(filter(self._is_free, networks), None)
        if swapped := self._swapped(name):
            return swapped if swapped in free else None
        if suffixed := next(filter(self._is_free, self._with_suffix(name)), None):
            return suffixed
        free += [section for section in self.of_plugins if section not in self.composition.values]
        return next((found for found in similar_names(name, [*SECTIONS, *self.of_plugins], 1) if found in free), None)

    def _swapped(self, name: str) -> str | None:
        """Returns the data set section for a name whose parts are in the wrong order, such as `dataset_test`."""
        base, _, word = name.rpartition("_")
        swapped = f"{word}_{base}"
        if base not in SECTIONS or SECTIONS[base].name != "dataset":
            return None
        return swapped if swapped in SECTIONS else meaning(swapped, SECTIONS)

    def _with_suffix(self, name: str) -> Iterator[str]:
        """Yields sections with a suffix that the user may have meant: `optimizer_d` for `discriminator_optimizer`.

        The suffix must belong to a model. If the section is a model itself, its suffix must be one letter or belong to
        another section.
        """
        known = self._known()
        models = {suffix for kind, suffix in known if kind == "model"}
        suffixes = {suffix for kind, suffix in known if SECTIONS[kind].suffixed}
        words = name.split("_")
        for count in range(1, len(words)):
            first, last = "_".join(words[:count]), "_".join(words[count:])
            for word, other in ((first, last), (last, first)):
                kind = _kind(word)
                for suffix in (other, _NETWORKS.get(other, "")):
                    is_likely = suffix in suffixes or len(suffix) == 1 if kind == "model" else suffix in models
                    if kind and suffix and is_likely:
                        yield section_name(kind, suffix)

    def _known(self) -> list[tuple[str, str]]:
        """Returns the name and suffix of each section in the file, and of each section suggested so far."""
        return [*self._in_file, *(found for name in self.guessed if (found := split_section(name)))]

    @functools.cached_property
    def _in_file(self) -> list[tuple[str, str]]:
        """The name and suffix of each section in the file, cached because files can have thousands of sections."""
        names = filter(self._is_present, self.composition.values)
        return [found for name in names if (found := split_section(name))]

    def _is_free(self, name: str) -> bool:
        """Returns whether the file lacks the section, but has the section that it belongs to, such as its model."""
        kind, suffix = split_section(name) or (name, "")
        known, partner = self._known(), SECTIONS[kind].partner
        others = [found for found in known if found[0] == partner]
        return not self._is_taken(name) and (not partner or (partner, suffix) in others or not (others or suffix))

    def _is_taken(self, name: str) -> bool:
        return current_name((), name) in {current_name((), guessed) for guessed in self.guessed} or self._is_present(
            name
        )

    def _is_present(self, name: str) -> bool:
        """Returns whether the file has the section. A lone `[model.args]` does not count as `[model]`."""
        value = self.composition.values.get(current_name((), name))
        return value is not None and not (isinstance(value, dict) and {} != value.keys() <= {"args", "dataloader"})


def _kind(word: str) -> str | None:
    """Returns the kind of section that a word means, if sections of this kind may have a suffix; otherwise None."""
    return word if word in _SUFFIXED else nearest(word, _SUFFIXED)
