"""Merge methods and stages, one file each. METHODS and STAGES are the whole lists."""

from __future__ import annotations

from functools import cache

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
    expo,
    hard_threshold,
    iso_c,
    iso_cts,
    karcher,
    knots_ties,
    led,
    linear,
    lox,
    lssf,
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
    resta,
    safe_projection,
    sce,
    slerp,
    svc,
    task_arithmetic,
    ties,
    tsvm,
)
from safemerge.methods.common.method import Method, Selection, Site, Span, State
from safemerge.methods.common.params import Params
from safemerge.methods.common.stage import Stage, with_stage

__all__ = [
    "METHODS",
    "STAGES",
    "Method",
    "Params",
    "Selection",
    "Site",
    "Span",
    "State",
    "get_method",
]

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


STAGES: dict[str, Stage] = {
    module.STAGE.name: module.STAGE for module in (hard_threshold, svc, lox, lssf, resta, expo)
}
"""What `get_method` puts before or after a method."""


@cache
def get_method(name: str) -> Method:
    """Look a method up, with stages where the name has them: `hard_threshold+ties+svc`.

    Raises:
        RecipeError: an unknown name, with near names; not one method; a stage twice, on the wrong
            side, or one that the method cannot have.
    """
    parts = name.split("+")
    for part in parts:
        if part not in METHODS and part not in STAGES:
            near = (
                near_names(part, METHODS | STAGES) if len(parts) > 1 else near_names(name, METHODS)
            )
            raise RecipeError(f"unknown merge method {part!r}; {near}")
    methods = [part for part in parts if part in METHODS]
    if len(methods) != 1:
        raise RecipeError(
            f"method {name!r} names {len(methods)} merge methods; give one, and beside it stages "
            f"({', '.join(STAGES)})"
        )
    middle = parts.index(methods[0])
    before, after = parts[:middle][::-1], parts[middle + 1 :]
    method = METHODS[methods[0]]
    for part in (*before, *after):
        stage = STAGES[part]
        if parts.count(part) > 1 or stage.before != (part in before):
            side = "before" if stage.before else "after"
            raise RecipeError(f"method {name!r}: {part} stands once, {side} the merge method")
        method = with_stage(method, stage)
    return method
