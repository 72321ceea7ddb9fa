"""Recipe -> mergekit YAML, where mergekit 0.1.5 has the method and every number of the recipe.

Settings that differ between tensors become lists of cases, each with the longest beginning that
all tensors of one value share as its filter. Reading the file back gives a recipe of equal effect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping

import torch

from safemerge.errors import RecipeError
from safemerge.inputs import Inputs
from safemerge.io import Adapter
from safemerge.mergekit.reference import REFERENCE, RENAMED, VALUES, Reference
from safemerge.mergekit.settings import evaluate, parse_setting
from safemerge.mergekit.text import format_yaml
from safemerge.methods import Method, Params, get_method
from safemerge.names import groups
from safemerge.recipe import Recipe


def to_mergekit(recipe: Recipe, inputs: Inputs) -> str:
    """The text of a mergekit YAML file for the same merge.

    Args:
        recipe: what to express.
        inputs: its checkpoints, from `open_inputs`.

    Raises:
        RecipeError: mergekit cannot express it; with the reason.
    """
    tensors = {name: inputs.base.tensors[name].dtype for name in inputs.merged_names}
    opened = zip(recipe.sources, inputs.sources, strict=True)
    adapters = {ref.path for ref, source in opened if isinstance(source, Adapter)}
    return to_yaml(recipe, tensors, adapters)


def to_yaml(
    recipe: Recipe, tensors: Mapping[str, torch.dtype], adapters: Container[str] = ()
) -> str:
    """`to_mergekit` for what it reads from the checkpoints.

    Args:
        recipe: what to express.
        tensors: names of the base's merged tensors, with the types they are stored in.
        adapters: paths of sources that are LoRA adapters.
    """
    method = get_method(recipe.method)
    params = method.check(recipe)
    reference = REFERENCE.get(recipe.method)
    if reference is None:
        raise RecipeError(f"mergekit has no merge method {recipe.method!r}")
    if method.seeded:
        raise RecipeError(
            f"mergekit draws its own random masks for {recipe.method!r}, so its merge would be "
            "another one"
        )
    place = groups(tensors, recipe.places)
    models = _models(recipe, reference, adapters)
    settings = _per_model(recipe, method, reference, place)
    record: dict[str, object] = {"merge_method": recipe.method}
    if reference.merges == "two":
        record["base_model"] = models[0]
    # Among models that are averaged, a base_model that is not one of the sources would be added.
    elif reference.merges == "deltas" or recipe.base.path in models:
        record["base_model"] = recipe.base.path
    record["models"] = [
        {"model": model, "parameters": own} if own else {"model": model}
        for model, own in zip(models, settings, strict=True)
    ]
    shared = _shared(recipe.method, reference, params) | _of_all(recipe, method, reference, place)
    if shared:
        record["parameters"] = shared
    record["dtype"] = "float32"  # in which it is computed
    out_dtype = recipe.dtype or _one_dtype(tensors)
    if out_dtype != "float32":
        record["out_dtype"] = out_dtype
    if recipe.tokenizer is not None:
        if record.get("base_model") != recipe.base.path:
            raise RecipeError(
                f"the recipe has the tokenizer of {recipe.base.path}, which mergekit's "
                f"{recipe.method!r} has no part for"
            )
        record["tokenizer_source"] = recipe.tokenizer
    return format_yaml(record)


def _models(recipe: Recipe, reference: Reference, adapters: Container[str]) -> list[str]:
    """The sources as mergekit names them; it knows models by their paths."""
    paths = [source.path for source in recipe.sources]
    named = [*paths, recipe.base.path] if reference.merges == "deltas" else paths
    for path in named:
        if named.count(path) > 1:
            raise RecipeError(
                f"mergekit takes the model {path} once, and the recipe names it twice"
            )
        if "+" in path:
            raise RecipeError(f"mergekit takes the + in {path} for a LoRA adapter")
    return [f"{recipe.base.path}+{path}" if path in adapters else path for path in paths]


def _per_model(
    recipe: Recipe, method: Method, reference: Reference, place: Mapping[str, str]
) -> Iterator[dict[str, object]]:
    """The parameters of each source, in order."""
    weights = {group: recipe.weights_at(group) for group in place.values()}
    choices = {group: method.selection(recipe, group).per_source for group in place.values()}
    weighted = "weight" in reference.per_model or reference.merges == "two"
    if not weighted and {w for ws in weights.values() for w in ws} != {1.0}:
        raise RecipeError(
            f"mergekit's {recipe.method!r} has no weights, and the recipe's are not 1"
        )
    for i in range(len(recipe.sources)):
        settings: dict[str, object] = {}
        for parameter, default in reference.per_model.items():
            if parameter == "weight":
                by_group = {group: values[i] for group, values in weights.items()}
            else:
                by_group = {group: values[parameter][i] for group, values in choices.items()}
            if set(by_group.values()) != {default}:
                settings[parameter] = _setting({name: by_group[g] for name, g in place.items()})
        yield settings


def _of_all(
    recipe: Recipe, method: Method, reference: Reference, place: Mapping[str, str]
) -> dict[str, object]:
    """Numbers of the sources that are parameters of the whole merge in mergekit."""
    if "t" in reference.per_source:
        weights = {group: recipe.weights_at(group) for group in place.values()}
        shares = {group: _share(*of_two) for group, of_two in weights.items()}
        return {"t": _setting({name: shares[group] for name, group in place.items()})}
    if "select_topk" in reference.per_source:
        densities = {g: method.selection(recipe, g).per_source["density"] for g in place.values()}
        for group, of_sources in densities.items():
            if len(set(of_sources)) > 1:
                raise RecipeError(
                    f"mergekit's {recipe.method!r} has one select_topk for all sources, and the "
                    f"recipe's density differs between them at {group!r}"
                )
        return {"select_topk": _setting({name: densities[g][0] for name, g in place.items()})}
    return {}


def _share(first: float, second: float) -> float:
    if first + second <= 0.0:
        raise RecipeError(f"slerp divides by the sum of the weights, {first:g} and {second:g}")
    return second / (first + second)


def _shared(method: str, reference: Reference, params: Params) -> dict[str, object]:
    """The parameters of the whole merge that are not mergekit's defaults."""
    theirs = {RENAMED.get(name, name): name for name in reference.shared}
    shared: dict[str, object] = {}
    for field, value in params.model_dump().items():
        name = theirs.get(field)
        if name is None:
            if value != type(params).model_fields[field].default:
                raise RecipeError(f"mergekit's {method!r} has no parameter for {field}, {value}")
            continue
        value = {ours: value for value, ours in VALUES.get(name, {}).items()}.get(value, value)
        if value != reference.shared[name]:
            shared[name] = value
    return shared


def _setting(values: Mapping[str, float]) -> object:
    """One number, or a list of cases that gives every tensor its value."""
    common = Counter(values.values()).most_common(1)[0][0]
    beginnings = [(start, value) for start, value in _beginnings(values) if value != common]
    if not beginnings:
        return common
    # A longer filter is the narrower one where a name holds another one.
    beginnings.sort(key=lambda case: -len(case[0]))
    cases = [{"filter": start, "value": value} for start, value in beginnings]
    cases.append({"value": common})
    setting = parse_setting(cases, "cases")
    if all(evaluate(setting, name, 0.0) == value for name, value in values.items()):
        return cases
    # Whole names, the longest first: the first that is part of a name is that name.
    names = sorted(values, key=lambda name: -len(name))
    return [{"filter": name, "value": values[name]} for name in names]


def _beginnings(values: Mapping[str, float], start: str = "") -> Iterator[tuple[str, float]]:
    """Shortest beginnings, at dots, whose tensors share a value: (beginning, value)."""
    if len(set(values.values())) == 1:
        yield start, next(iter(values.values()))
        return
    branches: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        part, dot, _ = name[len(start) :].partition(".")
        branches.setdefault(start + part + dot, {})[name] = value
    for beginning, part_values in branches.items():
        yield from _beginnings(part_values, beginning)


def _one_dtype(tensors: Mapping[str, torch.dtype]) -> str:
    found = sorted({str(dtype).removeprefix("torch.") for dtype in tensors.values()})
    if len(found) != 1:
        raise RecipeError(
            f"the base stores its tensors in {' and '.join(found)}, and mergekit writes one type; "
            "give the recipe a dtype"
        )
    return found[0]
