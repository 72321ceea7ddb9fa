"""[fusion]: a mixture of the sources as experts. Keys are explained in template.toml."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from safemerge.errors import near_names
from safemerge.fusion.training import Precision
from safemerge.fusion.tuning import Regulariser
from search.config.section import Section
from synth.probes.probe import AXES

SEARCHED = "search"  # as the anchor: the pick of the search that the mixture is compared with


class FusionConfig(Section):
    # `{axis: source}`; of a source's own data, JSON Lines of prompt and answer, `{source: file}`
    experts: dict[str, str] = Field(default={})
    alignment: dict[str, str] = Field(default={})
    anchor: str = Field(default="base", min_length=1)
    top_k: int = Field(default=2, ge=1)
    gating: float = Field(default=0.1, ge=0.0)
    gamma: float | dict[str, float] = 1e-3
    regulariser: Regulariser = "drift"
    balance: float = Field(default=0.0, ge=0.0)
    steps: int = Field(default=200, ge=1)
    batch: int = Field(default=16, ge=1)
    lr: float = Field(default=5e-4, gt=0.0)
    precision: Precision = "float32"
    recompute: bool = False
    save_steps: int = Field(default=100, ge=1)

    def gammas(self, sources: Sequence[str]) -> tuple[float, ...]:
        """gamma_e of the sources' experts, in their order; 0 where the table leaves one out."""
        if isinstance(self.gamma, dict):
            return tuple(self.gamma.get(name, 0.0) for name in sources)
        return (self.gamma,) * len(sources)

    def check_names(self, sources: Sequence[str]) -> None:
        """Refuse names of no axis and of no source, as a ValueError."""
        gammas = self.gamma if isinstance(self.gamma, dict) else {"gamma": self.gamma}
        for name, gamma in gammas.items():
            if gamma < 0.0:
                raise ValueError(f"fusion.gamma of {name} is {gamma:g}; it must be at least 0")
        for axis in self.experts:
            if axis not in AXES:
                raise ValueError(f"fusion.experts: unknown axis {axis!r}; {near_names(axis, AXES)}")
        named = [("experts", source) for source in self.experts.values()]
        named += [("alignment", source) for source in self.alignment]
        named += (
            [("gamma", source) for source in self.gamma] if isinstance(self.gamma, dict) else []
        )
        for key, source in named:
            if source not in sources:
                raise ValueError(
                    f"fusion.{key} names {source!r}, which is no source; "
                    f"{near_names(source, sources)}"
                )
