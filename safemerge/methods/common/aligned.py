"""What the methods share that measure every source against an aligned one."""

from __future__ import annotations

from pydantic import Field

from safemerge.errors import RecipeError, near_names
from safemerge.methods.common.base import Scaled, Site
from safemerge.recipe import Recipe


class Aligned(Scaled):
    """Parameters of methods that know which source is the aligned one.

    Args:
        scale: alpha, in [0, 10].
        aligned: name of the source whose delta (aligned minus base) holds the alignment. There is
            no default: a guess would protect the wrong thing.
    """

    aligned: str = Field(examples=["a"])

    def check_against(self, recipe: Recipe) -> None:
        """Refuse a name that is not one of the recipe's sources."""
        super().check_against(recipe)
        names = [source.name for source in recipe.sources]
        if self.aligned not in names:
            raise RecipeError(
                f"method {recipe.method!r}: aligned is {self.aligned!r}, which is no source of the "
                f"recipe; {near_names(self.aligned, names)}"
            )

    def index(self, site: Site) -> int:
        """The aligned source's place among the deltas."""
        return site.sources.index(self.aligned)
