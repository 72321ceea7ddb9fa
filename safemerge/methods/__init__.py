"""Merge methods, one file each. METHODS is the whole list."""

from __future__ import annotations

from safemerge.errors import RecipeError, near_names
from safemerge.methods import (
    alignment_guard,
    arcee_fusion,
    breadcrumbs,
    breadcrumbs_ties,
    dare_linear,
    dare_ties,
    della,
    della_linear,
    iso_c,
    iso_cts,
    karcher,
    knots_ties,
    led,
    linear,
    model_stock,
    model_stock_rows,
    multislerp,
    nearswap,
    nuslerp,
    nuslerp_rows,
    passthrough,
    r_tsvm,
    ram,
    ramplus_tl,
    resm,
    resmerge,
    safe_projection,
    sce,
    slerp,
    task_arithmetic,
    ties,
    tsvm,
)
from safemerge.methods.common.method import Method, Selection, Site, Span, State
from safemerge.methods.common.params import Params

__all__ = ["METHODS", "Method", "Params", "Selection", "Site", "Span", "State", "get_method"]

_AVERAGES = (linear, slerp, karcher, nuslerp, nuslerp_rows, multislerp, passthrough)
_SUMS = (task_arithmetic, model_stock, model_stock_rows)
_SPARSE = (ties, dare_linear, dare_ties, della_linear, della, breadcrumbs, breadcrumbs_ties, sce)
_SWAPS = (nearswap, arcee_fusion, ram, ramplus_tl)
_SPECTRAL = (tsvm, resm, r_tsvm, iso_c, iso_cts, knots_ties, resmerge)
_ALIGNMENT = (safe_projection, alignment_guard, led)

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD
    for module in (*_AVERAGES, *_SUMS, *_SPARSE, *_SWAPS, *_SPECTRAL, *_ALIGNMENT)
}


def get_method(name: str) -> Method:
    """Look a method up; an unknown name is a RecipeError with near names."""
    if name not in METHODS:
        raise RecipeError(f"unknown merge method {name!r}; {near_names(name, METHODS)}")
    return METHODS[name]
