"""mergekit YAML -> Recipe: every parameter is worked out for every tensor, as mergekit 0.1.5 does,
and tensors that agree are put into place groups (docs/methods.md#mergekit-compatibility).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from safemerge.errors import RecipeError, near_names
from safemerge.inputs import merged_names
from safemerge.io import open_checkpoint
from safemerge.mergekit.casting import Cast, cast_of, named
from safemerge.mergekit.config import MergekitConfig
from safemerge.mergekit.parsing import read_config
from safemerge.mergekit.positions import Position, positions
from safemerge.mergekit.reference import PARAMETERS, RENAMED, VALUES
from safemerge.mergekit.settings import Scalar, Settings, evaluate
from safemerge.methods import METHODS, get_method
from safemerge.names import groups
from safemerge.recipe import ModelRef, ParamValue, Recipe, first_problem

PROFILES = ("global", "layers", "layers+kind", "modules")  # coarsest first

log = logging.getLogger(__name__)

Numbers = Mapping[str, tuple[float, ...]]  # {parameter: a value for each source}


def from_mergekit(path: str | Path, *, allow_pickle: bool = False) -> Recipe:
    """The recipe that a mergekit YAML file describes.

    Model paths are relative to the file's folder where they exist there, else to the working
    folder, else hub ids. Where parameters differ between tensors, the base is opened for its
    tensors' names (`allow_pickle` also from `.bin` files).

    Raises:
        RecipeError: the file is damaged, or says what a recipe cannot express; with file and key.
        CheckpointError: the base cannot be opened.
    """
    config = read_config(path)
    folder = Path(path).parent
    try:
        base = ModelRef(name="base", path=cast_of(config).base.path).relative_to(folder).path
        names: Sequence[str] = ()
        if not config.is_uniform:
            names = merged_names(open_checkpoint(base, allow_pickle=allow_pickle))
        recipe = to_recipe(config, names)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error
    return recipe.relative_to(folder)


def title_of(path: str | Path) -> str | None:
    """What a mergekit YAML file calls the merged model (`name`), which its recipe does not say."""
    return read_config(path).name


def to_recipe(config: MergekitConfig, names: Sequence[str]) -> Recipe:
    """The recipe of a checked file.

    `names` are the base's merged tensors; there may be none where `config.is_uniform`.
    """
    cast = cast_of(config)
    base, *sources = named(cast)
    labels = [source.name for source in sources]
    get_method(config.method).check_count(labels)
    _check_parameters(config, cast)
    places = positions(config, ("",) if config.is_uniform else names)
    numbers = {name: _numbers(config, cast, place, name) for name, place in places.items()}
    profile = _profile(numbers)
    by_group = {group: numbers[name] for name, group in groups(numbers, profile).items()}
    if profile == "global":
        by_group = {"default": by_group["all"]}
    weights: dict[str, dict[str, float]] = {}
    per_source: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for group, numbers_there in by_group.items():
        for parameter, values in numbers_there.items():
            by_source = dict(zip(labels, values, strict=True))
            if parameter == "weight":
                weights[group] = by_source
            else:
                per_source[parameter][group] = by_source
    try:
        recipe = Recipe(
            base=base,
            sources=tuple(sources),
            method=config.method,
            params=_params(config, cast, places),
            places=profile,
            weights=weights,
            per_source=per_source,
            dtype=config.dtype,
            tokenizer=config.tokenizer,
        )
    except ValidationError as error:
        raise RecipeError(first_problem(error)) from error
    get_method(recipe.method).check(recipe)
    return recipe


def _check_parameters(config: MergekitConfig, cast: Cast) -> None:
    """Refuse parameters that mean nothing; log those that mergekit takes and does not use."""
    shared = cast.facts.shared.keys()
    known = cast.facts.per_model.keys() | shared
    idle = set()
    for name in sorted({name for settings in config.scopes for name in settings} - known):
        if name not in PARAMETERS:
            raise RecipeError(
                f"unknown parameter {name!r}; {near_names(name, known or PARAMETERS)}"
            )
        idle.add(f"{name} with merge_method {config.method!r}")
    for entry in (entry for part in config.slices for entry in part.inputs):
        for name in sorted(entry.parameters.keys() & shared):
            raise RecipeError(
                f"{name!r} of model {entry.model!r} is a parameter of the whole merge; move it to "
                "the top-level parameters"
            )
        if entry.model not in cast.sources:
            idle |= {f"{name} of the base_model" for name in entry.parameters}
    for what in sorted(idle):
        log.warning("%s has no effect, in mergekit neither", what)


def _numbers(config: MergekitConfig, cast: Cast, place: Position, tensor: str) -> Numbers:
    """The numbers of every source at a tensor."""
    wider = (place.part.parameters, config.parameters)
    own = {entry.model: entry.parameters for entry in place.part.inputs}
    numbers = {}
    for parameter, default in cast.facts.per_model.items():
        values = []
        for model in cast.sources:
            scopes, what = (own.get(model, {}), *wider), f"{parameter} of model {model!r}"
            values.append(_number(_resolve(parameter, scopes, tensor, place, default, what), what))
        numbers[parameter] = tuple(values)
    numbers.setdefault("weight", (1.0,) * len(cast.sources))
    for parameter in cast.facts.per_source:
        wide = cast.facts.shared[parameter]
        value = _resolve(parameter, wider, tensor, place, wide, parameter)
        numbers |= _of_sources(parameter, value, numbers["weight"])
    return numbers


def _of_sources(parameter: str, value: Scalar, weights: tuple[float, ...]) -> Numbers:
    """A parameter of the whole merge as numbers of the sources."""
    if parameter == "t":
        share = _number(value, parameter)
        return {"weight": (1.0 - share, share)}
    if parameter == "select_topk":
        return {"density": (_number(value, parameter),) * len(weights)}
    assert parameter == "normalize"
    total = sum(weights) if _flag(value, parameter) else 1.0
    # mergekit does not divide by a sum near 0.
    return {"weight": tuple(w / total for w in weights) if abs(total) >= 1e-8 else weights}


def _params(
    config: MergekitConfig, cast: Cast, places: Mapping[str, Position]
) -> dict[str, ParamValue]:
    """The parameters of the whole merge, under our names."""
    params: dict[str, ParamValue] = {}
    for parameter in cast.facts.shared.keys() - cast.facts.per_source:
        default = cast.facts.shared[parameter]
        values: dict[Scalar, str] = {}
        for tensor, place in places.items():
            scopes = (place.part.parameters, config.parameters)
            value = _resolve(parameter, scopes, tensor, place, default, parameter)
            values[_like(default, value, parameter)] = tensor
        if len(values) > 1:
            (one, here), (other, there), *_ = values.items()
            raise RecipeError(
                f"{parameter} is {one} for {here} and {other} for {there}; a recipe has one for "
                "the whole merge"
            )
        params |= _ours(config.method, parameter, next(iter(values)), default)
    return params


def _ours(
    method: str, parameter: str, value: Scalar, default: Scalar | None
) -> dict[str, ParamValue]:
    """A parameter of the whole merge as our method has it: `{name: value}`, or nothing."""
    if parameter == "int8_mask":  # a narrower mask saves mergekit memory and changes no number
        return {}
    ours = RENAMED.get(parameter, parameter)
    fields = METHODS[method].params.model_fields
    if ours not in fields:  # then our method does what mergekit does by default
        if value == default:
            return {}
        raise RecipeError(
            f"{parameter}: {value} cannot be expressed with merge_method {method!r}, only {default}"
        )
    value = VALUES.get(parameter, {}).get(value, value)
    return {} if value == fields[ours].default else {ours: value}


def _resolve(
    parameter: str,
    scopes: Sequence[Settings],
    tensor: str,
    place: Position,
    default: Scalar | None,
    what: str,
) -> Scalar:
    """The value of the narrowest scope that has one for the tensor."""
    for settings in scopes:
        if parameter in settings:
            value = evaluate(settings[parameter], tensor, place.depth)
            if value is not None:
                return value
    if default is None:
        at = f" for the tensor {tensor}" if tensor else ""
        raise RecipeError(f"{what} is not given{at}; it has no default")
    return default


def _number(value: Scalar, what: str) -> float:
    if isinstance(value, (bool, str)):
        raise RecipeError(f"{what} is {value!r}, not a number")
    return float(value)


def _like(default: Scalar | None, value: Scalar, what: str) -> Scalar:
    """The value in its default's type."""
    if isinstance(default, bool):
        return _flag(value, what)
    number = _number(value, what)
    return int(number) if isinstance(default, int) and number.is_integer() else number


def _flag(value: Scalar, what: str) -> bool:
    if value not in (False, True):
        raise RecipeError(f"{what} is {value!r}, not true or false")
    return bool(value)


def _profile(numbers: Mapping[str, Numbers]) -> str:
    """The coarsest profile in which all tensors of a group have the same numbers."""
    for profile in PROFILES:
        first: dict[str, str] = {}
        clash = next(
            (
                (first[group], name)
                for name, group in groups(numbers, profile).items()
                if numbers[first.setdefault(group, name)] != numbers[name]
            ),
            None,
        )
        if clash is None:
            return profile
    assert clash is not None  # the last profile did not fit either
    here, there = clash
    parameter = next(p for p in numbers[here] if numbers[here][p] != numbers[there][p])
    raise RecipeError(
        f"{parameter} is {list(numbers[here][parameter])} for {here} and "
        f"{list(numbers[there][parameter])} for {there}; a recipe has one for both, use a filter "
        "that takes both"
    )
