"""Which weights an evaluation uses, if hooks offer others than the trained ones: `--weights`."""

from __future__ import annotations

from collections.abc import Callable

from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import RunError

RAW = "raw"
"""The name of the weights that the optimiser trains."""


class WeightChoice:
    """The weights that hooks offer for evaluations, such as an average, and the choice of the user.

    Attributes:
        chosen: the name of the weights to evaluate; None leaves it to the hooks.
    """

    def __init__(self) -> None:
        self._offered: list[str] = []
        self._uses: list[Callable[[], None]] = []
        self.chosen: str | None = None

    def offer(self, name: str, use: Callable[[], None] | None = None) -> None:
        """Says that a hook can evaluate other weights. Hooks call it in `on_setup`.

        Args:
            name: what the user calls them in `--weights`.
            use: puts the weights into the networks for good, if they are the ones that evaluations use. It is called
                where a trained network is used outside of a run, after the state of the hook has been restored.
        """
        self._offered.append(name)
        if use is not None:
            self._uses.append(use)

    def use(self) -> None:
        """Puts the chosen weights into the networks, or those that the hooks choose."""
        for use in self._uses:
            use()

    def choose(self, name: str | None) -> None:
        """Chooses the weights to evaluate: `raw`, or a name that a hook has offered; None leaves it to the hooks.

        Raises:
            RunError: no hook offers such weights.
        """
        if name not in (None, RAW, *self._offered):
            offered = listed([f"`{own}`" for own in (RAW, *self._offered)])
            raise RunError(f"no hook offers weights called `{name}`", remedy=f"choose one of these: {offered}")
        self.chosen = name
