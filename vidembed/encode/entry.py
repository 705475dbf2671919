"""One row of the table of encoders: what is known of an encoder without its weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vidembed.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidembed.clips import ClipSpec


@dataclass(frozen=True, slots=True)
class Preset:
    """A named way of sampling and preprocessing. text: whose it is, in a few words."""

    text: str
    clip: ClipSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One encoder by name.

    package: has a module `describe` (a spec from the weights' names and shapes, no torch) and a
        module `encoder` (what computes).
    presets: by name, the first is the default unless the weights decide.
    parameters, gmacs: counted on the built network; gmacs: billions of multiply-adds for one clip
        of the default preset.
    half: whether bfloat16 is near enough to float32 (cosine 0.999 or more, measured) to be the
        default on a GPU.
    weights: what `--weights` is where it is not given, None where the user must. shipped: the
        weights come with vidembed. obtain: how to get weights.
    published: numbers that the weights' authors publish, for comparison.
    """

    name: str
    package: str
    modalities: tuple[str, ...]
    dim: str
    metric: str
    presets: Mapping[str, Preset]
    parameters: str
    gmacs: str
    licence: str
    source: str
    obtain: str
    weights: str | None = None
    shipped: bool = False
    half: bool = True
    published: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def default(self) -> ClipSpec:
        if not self.presets:
            raise ConfigError(f"{self.name} says only with its weights which frames it takes")
        return next(iter(self.presets.values())).clip

    @property
    def frames(self) -> str:
        sampling = self.default.sampling
        return (
            f"{sampling.windows} x {sampling.count}"
            if sampling.windows > 1
            else str(sampling.count)
        )

    def preset(self, name: str | None) -> ClipSpec | None:
        """The preset of this name, None for None. Raises ConfigError with the names there are."""
        if name is None:
            return None
        if name not in self.presets:
            raise ConfigError(
                f"{self.name} has no preset {name!r}; there are: {', '.join(self.presets)}"
            )
        return self.presets[name].clip
