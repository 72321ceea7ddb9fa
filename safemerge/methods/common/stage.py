"""Stage: what is done before or after a merge method, whichever that is.

`hard_threshold+ties+svc` is the method ties with a stage before and one after: a Method like any
other, with the parameters of all three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import create_model

from safemerge.errors import RecipeError
from safemerge.methods.common.method import Method
from safemerge.methods.common.params import Params

_SHARED = {"seed"}  # parameters that a method and its stages may have in common


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage.

    Args:
        name: key in STAGES.
        params: model of its own parameters.
        around: the method with the stage; name and parameters are seen to here.
        before: it changes what is merged; else what comes out.
        pair: its parameters are `PairParams`.
    """

    name: str
    params: type[Params]
    around: Callable[[Method], Method]
    before: bool = False
    pair: bool = False


def with_stage(method: Method, stage: Stage) -> Method:
    """A method that adds to the base, with a stage before or after it.

    Raises:
        RecipeError: a method that averages sources, or one that has a parameter of that name.
    """
    parts = (stage.name, method.name) if stage.before else (method.name, stage.name)
    name = "+".join(parts)
    if not method.zero_is_base:
        raise RecipeError(
            f"method {name!r}: {method.name} averages whole sources, and a stage works on what a "
            "merge adds to the base; name task_arithmetic with weights that sum to 1"
        )
    taken = stage.params.model_fields.keys() & method.params.model_fields.keys() - _SHARED
    if taken:
        raise RecipeError(
            f"method {name!r}: {method.name} and {stage.name} both have a parameter "
            f"{min(taken)!r}, so the one cannot be a stage of the other"
        )
    params = _joined(f"{method.name} {stage.name}", stage.params, method.params)
    if stage.pair:
        params.least_others = method.least_sources  # type: ignore[attr-defined]  # of PairParams
    return replace(stage.around(method), name=name, params=params)


def _joined(name: str, *models: type[Params]) -> type[Params]:
    """A model with the fields and checks of several."""
    return create_model(name, __base__=models)
