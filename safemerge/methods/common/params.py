"""Parameter models that methods of several kinds share."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from safemerge.errors import RecipeError, near_names
from safemerge.recipe import Recipe


class Params(BaseModel):
    """Parameters of a method: frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def check_against(self, recipe: Recipe) -> None:
        """Refuse parameters that do not fit the rest of a recipe, with a RecipeError."""


class Scaled(Params):
    """`scale` is alpha (or lambda) of the papers: base + scale * merged delta.

    Below 0 what the sources learned is taken away.
    """

    scale: float = Field(default=1.0, ge=-10.0, le=10.0)


class Aligned(Scaled):
    """Of methods that need an aligned source; a default would protect the wrong thing."""

    aligned: str = Field(examples=["a"])

    def check_against(self, recipe: Recipe) -> None:
        super().check_against(recipe)
        names = [source.name for source in recipe.sources]
        if self.aligned not in names:
            raise RecipeError(
                f"method {recipe.method!r}: aligned is {self.aligned!r}, which is no source of the "
                f"recipe; {near_names(self.aligned, names)}"
            )

    def index(self, sources: Sequence[str]) -> int:
        """The aligned source's place among the sources, given by name."""
        return sources.index(self.aligned)
