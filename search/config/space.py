"""[space]: what the search may change. Keys are explained in template.toml."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from search.config.profiles import valid_space_profile
from search.config.section import Section


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not value[0] <= value[1]:
        raise ValueError(f"the range {list(value)} runs downwards; give [low, high]")
    return value


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
SpaceProfile = Annotated[str, AfterValidator(valid_space_profile)]


class NumberConfig(Section):
    """A number that the method has for every source, such as density: its range and profile."""

    range: Range
    places: SpaceProfile = "global"


class SpaceConfig(Section):
    places: SpaceProfile = "modules"
    weight: Range = (0.0, 1.5)
    zero_prob: float = Field(default=0.0, ge=0.0, lt=1.0)
    prior: dict[str, float] = Field(default={})
    rank_ratio: Range = (0.02, 0.5)
    rank_places: SpaceProfile | None = None
    scale: Range = (0.8, 1.2)
    outliers: tuple[str, ...] = ()
    per_source: dict[str, NumberConfig] = Field(default={})

    @model_validator(mode="after")
    def _in_range(self) -> SpaceConfig:
        if not 0.0 < self.rank_ratio[0] <= self.rank_ratio[1] <= 1.0:
            raise ValueError(f"rank_ratio is {list(self.rank_ratio)}; it must lie in (0, 1]")
        if not 0.0 <= self.scale[0] <= self.scale[1] <= 10.0:
            raise ValueError(f"scale is {list(self.scale)}; it must lie in [0, 10]")
        low, high = self.weight
        if self.zero_prob > 0.0 and (low != 0.0 or high == 0.0):
            raise ValueError(
                f"zero_prob is {self.zero_prob}, which needs a range of weights from 0 upwards, "
                f"and weight is {[low, high]}; set the one to 0 or the other to [0, high]"
            )
        for source, weight in self.prior.items():
            if not low <= weight <= high:
                raise ValueError(f"prior.{source} is {weight}, outside of weight = {[low, high]}")
        if len(set(self.outliers)) != len(self.outliers):
            raise ValueError(f"outliers is {list(self.outliers)}; name each mode once")
        return self
