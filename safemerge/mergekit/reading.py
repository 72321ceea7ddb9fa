"""mergekit YAML -> Recipe: every parameter is worked out for every tensor, as mergekit 0.1.5 does,
and tensors that agree are put into place groups (docs/methods.md#mergekit-compatibility).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from pydantic import ValidationError

from safemerge.errors import RecipeError, near_names
from safemerge.inputs import merged_names
from safemerge.io import fuse_experts, open_checkpoint
from safemerge.mergekit.casting import Cast, cast_of, named
from safemerge.mergekit.config import MergekitConfig
from safemerge.mergekit.model_name import ModelName
from safemerge.mergekit.parsing import looks_like, read_config, read_configs
from safemerge.mergekit.positions import Position, positions, stacked_names
from safemerge.mergekit.reference import PARAMETERS, RENAMED, VALUES, VARIANTS
from safemerge.mergekit.settings import Scalar, Settings, evaluate, plain
from safemerge.methods import METHODS, get_method
from safemerge.names import depth_of, groups
from safemerge.recipe import (
    ModelRef,
    ParamValue,
    Recipe,
    TokenRow,
    Vocabulary,
    first_problem,
)

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
    return _recipe(read_config(path), Path(path), allow_pickle)


@dataclass(frozen=True, slots=True)
class Document:
    """One merge of a file with several documents."""

    recipe: Recipe
    title: str | None  # what the file calls the merged model
    out: Path  # where it belongs


def documents(path: str | Path, out: Path, *, allow_pickle: bool = False) -> Iterator[Document]:
    """The merges of a mergekit YAML file, in order; one is written before the next is asked for.

    A document that has a `name` and is not the last one goes to `OUT.parts/NAME`; other documents
    name it by that name, as with `mergekit-multi`. The last one goes to `out`: the document without
    a name, or where all have one the last that no other uses.

    Raises:
        RecipeError: as `from_mergekit`, before the first one is given; names that are missing,
            given twice or used in a circle.
    """
    configs = _in_order(read_configs(path), Path(path))
    parts = out.with_name(f"{out.name}.parts")
    places = {c.name: str(parts / c.name) for c in configs[:-1] if c.name is not None}
    for config in configs:
        cast_of(config)  # unknown methods, before anything is written
    for config in configs:
        moved = config.with_paths(places)
        place = out if config is configs[-1] else Path(places[str(config.name)])
        yield Document(_recipe(moved, Path(path), allow_pickle), config.name, place)


def _in_order(configs: list[MergekitConfig], path: Path) -> list[MergekitConfig]:
    """Documents behind those that they use."""
    if len(configs) == 1:
        return configs
    by_name: dict[str | None, MergekitConfig] = {}
    for config in configs:
        if config.name in by_name:
            what = "no name" if config.name is None else f"the name {config.name!r}"
            raise RecipeError(
                f"{path}: two documents have {what}; name all but the last, each once"
            )
        if config.name is not None and Path(config.name).name != config.name:
            raise RecipeError(f"{path}: the name {config.name!r} is no name of a folder; change it")
        by_name[config.name] = config
    uses = {
        name: {m.path for m in (*_all_models(c), c.base) if m is not None} & {*by_name}
        for name, c in by_name.items()
    }
    try:
        order = list(TopologicalSorter(uses).static_order())
    except CycleError as error:
        circle = ", ".join(map(repr, error.args[1]))
        raise RecipeError(f"{path}: documents use each other in a circle: {circle}") from error
    used = set().union(*uses.values())
    last = None if None in by_name else next(c.name for c in configs[::-1] if c.name not in used)
    order.remove(last)
    return [by_name[name] for name in (*order, last)]


def _all_models(config: MergekitConfig) -> Iterator[ModelName]:
    return (entry.model for part in config.slices for entry in part.inputs)


def _recipe(config: MergekitConfig, path: Path, allow_pickle: bool) -> Recipe:
    folder = path.parent
    try:
        base = ModelRef(name="base", path=cast_of(config).base.path).relative_to(folder).path
        names: Sequence[str] = ()
        if not config.is_uniform:
            checkpoint, _ = fuse_experts(open_checkpoint(base, allow_pickle=allow_pickle))
            names = merged_names(checkpoint)
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
    method = METHODS[config.method]
    method.check_count(labels)
    idle = _idle_parameters(config, cast)
    for key in config.idle:
        log.warning("%s has no effect, in mergekit neither", key)
    depth = 1 + max((n for name in names if (n := depth_of(name)) is not None), default=-1)
    stack = _stack(config, cast, [base, *sources]) if config.is_stacked(depth) else ()
    if config.method == "passthrough":
        _check_alone(config)
    places = positions(config, ("",) if config.is_uniform else stacked_names(config, names))
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
    name, params = _params(config, cast, places)
    try:
        recipe = Recipe(
            base=base,
            sources=tuple(sources),
            method=name,
            params=params,
            places=profile,
            weights=weights,
            per_source=per_source,
            dtype=config.dtype,
            tokenizer=_vocabulary(config, cast, [base, *sources]),
            stack=stack,
            experts="fused",
            chat_template=config.chat_template,
            ignored={**config.idle, **idle},
        )
    except ValidationError as error:
        raise RecipeError(first_problem(error)) from error
    get_method(recipe.method).check(recipe)
    return recipe


# Methods in which a source of weight 0 is as good as none.
_ADDITIVE = frozenset({"passthrough", "linear", "task_arithmetic", "ties", "dare_linear"}
    | {"dare_ties", "breadcrumbs", "breadcrumbs_ties", "della", "della_linear"})  # fmt: skip


def _check_alone(config: MergekitConfig) -> None:
    for i, part in enumerate(config.slices):
        if len(part.inputs) > 1:
            names = ", ".join(str(entry.model) for entry in part.inputs)
            at = f"slices[{i}]" if part.layers else "models"
            raise RecipeError(f"{at} lists {names}, and passthrough takes one model; list it alone")
    if config.slices[0].layers is None and config.base not in (None, *config.models):
        raise RecipeError(
            f"passthrough takes one model, and base_model {config.base!r} is another; leave it out"
        )


def _stack(
    config: MergekitConfig, cast: Cast, refs: Sequence[ModelRef]
) -> tuple[dict[str, tuple[int, int]], ...]:
    """The slices of a model of another depth, by the names of its models."""
    slices = []
    for i, part in enumerate(config.slices):
        layers = {entry.model: entry.layers for entry in part.inputs if entry.layers}
        missing = [model for model in cast.sources if model not in layers]
        if missing and config.method not in _ADDITIVE:
            raise RecipeError(
                f"slices[{i}] does not have {missing[0]!r}; {config.method} needs every model in "
                "every slice"
            )
        if cast.facts.merges != "models" and cast.base not in layers:
            raise RecipeError(
                f"slices[{i}] does not say which layers of the base_model {cast.base!r} it begins "
                "from; list it among the sources"
            )
        models = (cast.base, *cast.sources)
        slices.append(
            {ref.name: layers[m] for ref, m in zip(refs, models, strict=True) if m in layers}
        )
    return tuple(slices)


def _vocabulary(config: MergekitConfig, cast: Cast, refs: Sequence[ModelRef]) -> Vocabulary | None:
    """The vocabulary by the names of the models."""
    if config.tokenizer is None:
        return None
    models = (cast.base, *cast.sources)
    labels = dict(zip(models[::-1], [ref.name for ref in refs[::-1]], strict=True))

    def label(model: ModelName | None) -> str | None:
        if model is None:
            return None
        if model not in labels:
            raise RecipeError(f"the tokenizer names {model!r}, which is no model of this merge")
        return labels[model]

    source = config.tokenizer.source
    rows = {
        token: TokenRow(
            model=label(t.model), zero=t.zero, token=t.token, token_id=t.token_id, force=t.force
        )
        for token, t in config.tokenizer.tokens.items()
    }
    return Vocabulary(
        source=source if isinstance(source, str) else "model",
        model=None if isinstance(source, str) else label(source),
        tokens=rows,
        pad_to_multiple_of=config.tokenizer.pad_to_multiple_of,
        prefer_base=config.base is not None,
    )


def _idle_parameters(config: MergekitConfig, cast: Cast) -> dict[str, object]:
    """Parameters that mergekit takes and does not use, `{where.name: value}`; they are logged.

    Raises:
        RecipeError: one looks like a misspelling of one that matters.
    """
    shared = cast.facts.shared.keys()
    known = cast.facts.per_model.keys() | shared
    idle: dict[str, object] = {}
    said: dict[str, None] = {}
    for where, settings in _scopes(config):
        for name in settings.keys() - known:
            if name not in PARAMETERS and looks_like(name, known):
                raise RecipeError(f"unknown parameter {name!r}; {near_names(name, known)}")
            idle[f"{where}.{name}"] = plain(settings[name])
            said[f"{name} with merge_method {config.method!r}"] = None
    for entry in (entry for part in config.slices for entry in part.inputs):
        for name in sorted(entry.parameters.keys() & shared):
            idle[f"{entry.model}.parameters.{name}"] = plain(entry.parameters[name])
            said[f"{name} of model {str(entry.model)!r}, a parameter of the whole merge,"] = None
        if entry.model not in cast.sources:
            said |= dict.fromkeys(f"{name} of the base_model" for name in entry.parameters)
    for what in sorted(said):
        log.warning("%s has no effect, in mergekit neither", what)
    return idle


def _scopes(config: MergekitConfig) -> Iterator[tuple[str, Settings]]:
    """Every block of settings with its key in a recipe's `ignored`."""
    yield "parameters", {**config.module, **config.parameters}
    for i, part in enumerate(config.slices):
        yield f"slices[{i}].parameters", part.parameters
        for entry in part.inputs:
            yield f"{entry.model}.parameters", entry.parameters


def _numbers(config: MergekitConfig, cast: Cast, place: Position, tensor: str) -> Numbers:
    """The numbers of every source at a tensor."""
    wider = (place.part.parameters, *config.wider)
    own = {entry.model: entry.parameters for entry in place.part.inputs}
    numbers = {}
    for parameter, default in cast.facts.per_model.items():
        values = []
        for model in cast.sources:
            scopes, what = (own.get(model, {}), *wider), f"{parameter} of model {model!r}"
            if model in own or place.part.layers is None:
                value = _resolve(parameter, scopes, tensor, place, default, what)
            else:  # left out of the slice
                value = 0.0 if parameter in ("weight", "scale") else default or 0.0
            values.append(_number(value, what))
        numbers["weight" if parameter == "scale" else parameter] = tuple(values)
    numbers.setdefault("weight", (1.0,) * len(cast.sources))
    for parameter in cast.facts.per_source:
        wide = cast.facts.shared[parameter]
        value = _resolve(parameter, wider, tensor, place, wide, parameter)
        numbers |= _of_sources(config.method, parameter, value, numbers["weight"])
    if config.method == "nuslerp":
        first, second = numbers["weight"]
        # mergekit takes the middle where the weights cancel.
        share = 0.5 if abs(first + second) < 1e-6 else second / (first + second)
        numbers["weight"] = (1.0 - share, share)
    return numbers


def _of_sources(method: str, parameter: str, value: Scalar, weights: tuple[float, ...]) -> Numbers:
    """A parameter of the whole merge as numbers of the sources."""
    if method == "nearswap":
        return {"t": (_number(value, parameter),)}
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
) -> tuple[str, dict[str, ParamValue]]:
    """Our name of the method, and the parameters of the whole merge under our names."""
    found: dict[str, Scalar] = {}
    for parameter in cast.facts.shared.keys() - cast.facts.per_source:
        default = cast.facts.shared[parameter]
        values: dict[Scalar, str] = {}
        for tensor, place in places.items():
            scopes = (place.part.parameters, *config.wider)
            value = _resolve(parameter, scopes, tensor, place, default, parameter)
            values[_like(default, value, parameter)] = tensor
        if len(values) > 1:
            (one, here), (other, there), *_ = values.items()
            raise RecipeError(
                f"{parameter} is {one} for {here} and {other} for {there}; a recipe has one for "
                "the whole merge"
            )
        found[parameter] = next(iter(values))
    name = config.method
    special, value, other = VARIANTS.get(name, ("", True, ""))
    if special and found.pop(special) == value:
        name = other
    params: dict[str, ParamValue] = {}
    for parameter, value in found.items():
        params |= _ours(name, parameter, value, cast.facts.shared[parameter])
    if cast.facts.merges == "either" and config.base is None:
        params["from_base"] = False
    return name, params


def _ours(
    method: str, parameter: str, value: Scalar, default: Scalar | None
) -> dict[str, ParamValue]:
    """A parameter of the whole merge as our method has it: `{name: value}`, or nothing."""
    # A narrower mask saves mergekit memory and changes no number; a flat vector has no rows.
    if parameter == "int8_mask" or (method, parameter) == ("nuslerp", "nuslerp_row_wise"):
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
