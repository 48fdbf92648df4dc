"""Chooses the weights for an evaluation (`--weights`): the trained weights, or weights that a hook offers."""

from __future__ import annotations

from collections.abc import Callable

from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import RunError

RAW = "raw"
"""The name of the weights that the optimiser trains."""


class WeightChoice:
    """Holds the names of the weights that hooks offer for evaluations, and the user's choice.

    A hook may offer, for example, a moving average of the weights.

    Attributes:
        chosen: the name of the weights to evaluate; None if the hooks decide.
    """

    def __init__(self) -> None:
        self._offered: list[str] = []
        self._uses: list[Callable[[], None]] = []
        self.chosen: str | None = None

    def offer(self, name: str, use: Callable[[], None] | None = None) -> None:
        """Registers weights that a hook offers for evaluations. Hooks call this method in `on_setup`.

        Args:
            name: the name of the weights for `--weights`.
            use: a function of the hook that checks whether these weights are the ones to evaluate, and if so copies
                them into the networks for good. It is called when a trained network is loaded for use outside of a run,
                after the state of the hook was restored.
        """
        self._offered.append(name)
        if use is not None:
            self._uses.append(use)

    def use(self) -> None:
        """Puts the chosen weights into the networks. If `chosen` is None, the hooks decide which weights to use."""
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
