"""Finds out what an unknown section stands for: a misspelling, or a word of another toolkit.

A suggestion must make the file better. The file must not have the section yet, and a model must have the suffix.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

from audiozen_core.config.composition import Composition
from audiozen_core.config.renamed_keys import current_name
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.diagnostics.suggestions import nearest, similar_names
from audiozen_core.diagnostics.synonyms import fold, meaning
from audiozen_core.kinds import SECTIONS, section_name, split_section

_SUFFIXED = [name for name, kind in SECTIONS.items() if kind.suffixed]
# Parts that other toolkits keep in a section of their own. Data loaders have a rule of their own.
_KEYS_MEANT: dict[str, KeyPath] = {
    "metric": ("trainer", "args", "metrics"),
    "metrics": ("trainer", "args", "metrics"),
    "sampler": ("dataset", "dataloader", "sampler"),
    "collate_fn": ("dataset", "dataloader", "collate_fn"),
}
_LOADER_ENDINGS = ("dataloader", "data_loader", "loader")
# The two networks of a GAN, with their suffixes.
_NETWORKS = {"generator": "g", "discriminator": "d"}


class MeantSections:
    """Suggests sections and keys for the unknown sections of a file.

    Args:
        composition: the file.
        of_plugins: the sections that installed plugins bring.

    Attributes:
        guessed: the sections that were suggested so far.
    """

    def __init__(self, composition: Composition, of_plugins: Iterable[str] = ()) -> None:
        self.composition = composition
        self.of_plugins = list(of_plugins)
        self.guessed: set[str] = set()

    def in_order(self) -> list[str]:
        """Returns the sections of the file: unknown ones before known ones, models before optimisers and schedulers.

        An unknown section may be a misspelt one, which is then not reported as missing. Which suffixes make sense
        depends on the models.
        """

        def order(name: str) -> tuple[bool, int, bool]:
            kinds = [kind for word in name.split("_") if (kind := _kind(word))]
            return split_section(name) is not None, max(map(_SUFFIXED.index, kinds), default=0), name == "discriminator"

        return sorted(self.composition.values, key=order)

    # ------------------------------------------------------------------------------------------ keys

    def is_part(self, name: str) -> bool:
        """Returns whether other toolkits have a section of this name for what is a key of a section here."""
        return name in _KEYS_MEANT or name.endswith(_LOADER_ENDINGS)

    def key(self, name: str) -> KeyPath | None:
        """Returns the key path that such a section stands for; None if the file does not have the section around it."""
        key = _KEYS_MEANT.get(name) or self._loader(name)
        return key if key and self._is_present(str(key[0])) else None

    def _loader(self, name: str) -> KeyPath | None:
        ending = next(ending for ending in _LOADER_ENDINGS if name.endswith(ending))
        prefix = name.removesuffix(ending).rstrip("_")
        datasets = [section for section, kind in SECTIONS.items() if kind.name == "dataset"]
        own = current_name((), f"{prefix}_dataset" if prefix else "dataset")
        dataset = own if own in datasets else meaning(own, [other for other in datasets if self._is_present(other)])
        return (current_name((), dataset), "dataloader") if dataset else None

    # ------------------------------------------------------------------------------------------ sections

    def section(self, name: str) -> str | None:
        """Returns the section that an unknown name stands for; None if there is none that the file could still have."""
        found = self._section(name)
        if found:
            self.guessed.add(found)
        return found

    def taken(self, name: str) -> str | None:
        """Returns the section that the name stands for and that the file already has; None if there is none."""
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
        """Returns the data set that a name such as `dataset_test` or `dataset_val` stands for."""
        base, _, word = name.rpartition("_")
        swapped = f"{word}_{base}"
        if base not in SECTIONS or SECTIONS[base].name != "dataset":
            return None
        return swapped if swapped in SECTIONS else meaning(swapped, SECTIONS)

    def _with_suffix(self, name: str) -> Iterator[str]:
        """Yields the sections with a suffix that a name stands for: `optimizer_d` for `discriminator_optimizer`.

        The suffix must be that of a model. A model itself may have one letter, or a suffix that another section has.
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
        """Returns the names and the suffixes of the sections that the file has, or would have with the suggestions."""
        return [*self._in_file, *(found for name in self.guessed if (found := split_section(name)))]

    @functools.cached_property
    def _in_file(self) -> list[tuple[str, str]]:
        """The names and the suffixes of the sections of the file. A file may have thousands of unknown ones."""
        names = filter(self._is_present, self.composition.values)
        return [found for name in names if (found := split_section(name))]

    def _is_free(self, name: str) -> bool:
        """Returns whether the file lacks the section, but has the partner that the section needs."""
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
    """Returns the kind of section, among those that may have a suffix, that a word stands for."""
    return word if word in _SUFFIXED else nearest(word, _SUFFIXED)
