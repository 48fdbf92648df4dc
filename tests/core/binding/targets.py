"""Classes whose constructors the tests of this folder bind arguments to."""

from __future__ import annotations

import dataclasses


class Net:
    def __init__(self, width: int, depth: int = 2, *, dropout: float = 0.0):
        self.given = (width, depth, dropout)


class Base:
    def __init__(self, components, *, max_epochs: int = 100, patience: int | None = None):
        self.given = (components, max_epochs, patience)


class Named(Base):
    def __init__(self, components, *, alpha: float = 0.5, **kwargs):
        super().__init__(components, **kwargs)


class Anything(Named):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


@dataclasses.dataclass
class Encoder:
    size: int
    kinds: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Codec:
    encoder: Encoder
    layers: list[Encoder] = dataclasses.field(default_factory=list)
