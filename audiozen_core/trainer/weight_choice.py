"""Chooses the weights for an evaluation: the trained weights, or weights that a hook offers (`--weights`)."""

from __future__ import annotations

from collections.abc import Callable

from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import RunError

RAW = "raw"
"""The name of the weights that the optimiser trains."""


class WeightChoice:
    """The weights that hooks offer for evaluations, such as an average, and the choice of the user.

    Attributes:
        chosen: the name of the weights to evaluate; None if the hooks decide.
    """

    def __init__(self) -> None:
        self._offered: list[str] = []
        self._uses: list[Callable[[], None]] = []
        self.chosen: str | None = None

    def offer(self, name: str, use: Callable[[], None] | None = None) -> None:
        """Registers weights that a hook offers for evaluations. Hooks call it in `on_setup`.

        Args:
            name: the name of the weights for `--weights`.
            use: puts the weights into the networks permanently, if evaluations use these weights. It is called when a
                trained network is loaded for use outside of a run, after the state of the hook was restored.
        """
        self._offered.append(name)
        if use is not None:
            self._uses.append(use)

    def use(self) -> None:
        """Puts the chosen weights into the networks; the weights that the hooks choose if `chosen` is None."""
        for use in self._uses:
            use()

    def choose(self, name: str | None) -> None:
        """Chooses the weights to evaluate.

        Args:
            name: `raw`, or a name that a hook has offered; None if the hooks decide.

        Raises:
            RunError: no hook offers weights of this name.
        """
        if name not in (None, RAW, *self._offered):
            offered = listed([f"`{choice}`" for choice in (RAW, *self._offered)])
            raise RunError(f"no hook offers weights named `{name}`", remedy=f"choose one of these: {offered}")
        self.chosen = name
