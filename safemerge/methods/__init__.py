"""Merge methods, one file each. METHODS is the whole list."""

from __future__ import annotations

from safemerge.errors import RecipeError, near_names
from safemerge.methods import (
    alignment_guard,
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
    r_tsvm,
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

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        linear.METHOD,
        slerp.METHOD,
        karcher.METHOD,
        task_arithmetic.METHOD,
        model_stock.METHOD,
        ties.METHOD,
        dare_linear.METHOD,
        dare_ties.METHOD,
        della_linear.METHOD,
        della.METHOD,
        breadcrumbs.METHOD,
        breadcrumbs_ties.METHOD,
        sce.METHOD,
        tsvm.METHOD,
        resm.METHOD,
        r_tsvm.METHOD,
        iso_c.METHOD,
        iso_cts.METHOD,
        knots_ties.METHOD,
        resmerge.METHOD,
        safe_projection.METHOD,
        alignment_guard.METHOD,
        led.METHOD,
    )
}


def get_method(name: str) -> Method:
    """Look a method up; an unknown name is a RecipeError with near names."""
    if name not in METHODS:
        raise RecipeError(f"unknown merge method {name!r}; {near_names(name, METHODS)}")
    return METHODS[name]
