"""Recipe -> mergekit YAML, where mergekit 0.1.5 has the method and every number of the recipe.

Settings that differ between tensors become lists of cases. Reading the file back gives a recipe of
equal effect.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

import torch

from safemerge.errors import RecipeError
from safemerge.inputs import Inputs
from safemerge.io import Adapter, fuse_experts
from safemerge.mergekit.model_name import ModelName
from safemerge.mergekit.reference import (
    MERGEKIT_METHODS,
    RENAMED,
    VALUES,
    VARIANTS,
    MergekitMethod,
)
from safemerge.mergekit.settings import write_setting
from safemerge.mergekit.text import format_yaml
from safemerge.methods import Method, Params, get_method
from safemerge.names import groups
from safemerge.recipe import ModelRef, Recipe, TokenRow, Vocabulary


def to_mergekit(recipe: Recipe, inputs: Inputs) -> str:
    """The text of a mergekit YAML file for the same merge; a RecipeError where there is none."""
    tensors = {name: inputs.base.tensors[name].dtype for name in inputs.merged_names}
    method = get_method(recipe.method)
    whole = method.piecewise and method.sums is None  # so that experts make no difference
    if recipe.experts is None and not whole and _has_experts(inputs):
        raise RecipeError(
            "the recipe merges every expert's matrix by itself, and mergekit all of a layer as one"
        )
    adapters = {s.ref.path for s in inputs.sources if isinstance(s.stored, Adapter)}
    return to_yaml(recipe, tensors, adapters)


def _has_experts(inputs: Inputs) -> bool:
    fused = bool(fuse_experts(inputs.base)[1])
    return fused or any(inputs.layout(name).stacked for name in inputs.merged_names)


def to_yaml(
    recipe: Recipe, tensors: Mapping[str, torch.dtype], adapters: Container[str] = ()
) -> str:
    """`to_mergekit`, by merged tensors' stored types and the paths of sources that are adapters."""
    method = get_method(recipe.method)
    params = method.check(recipe)
    theirs, extra = _theirs(recipe.method)
    facts = MERGEKIT_METHODS.get(theirs)
    if facts is None:
        raise RecipeError(f"mergekit has no merge method {recipe.method!r}")
    if recipe.stack:
        raise RecipeError(
            "the recipe stacks layers, and its numbers are by layers of the result, which "
            "mergekit's filters do not know"
        )
    place = groups(tensors, recipe.places)
    if method.seeded and not _keeps_all(recipe, method, place):
        raise RecipeError(
            f"mergekit draws its own random masks for {recipe.method!r}, so its merge would be "
            "another one"
        )
    if facts.most is not None and len(recipe.sources) > facts.most:
        raise RecipeError(
            f"mergekit's {theirs!r} merges {facts.most} with the base, and the recipe has "
            f"{len(recipe.sources)} sources"
        )
    of_deltas = facts.merges == "deltas" or recipe.params.get("from_base", facts.merges == "either")
    models = _models(recipe, bool(of_deltas), adapters)
    settings = _per_model(recipe, method, facts, place)
    record: dict[str, object] = {"merge_method": theirs}
    base = ModelName(recipe.base.path, recipe.base.adapter)
    if facts.merges == "two":
        record["base_model"] = _written(models[0])
    # Among models that are averaged, a base_model that is not one of the sources would be added.
    elif of_deltas or (base in models and facts.merges != "either"):
        record["base_model"] = _written(base)
    record["models"] = [
        {"model": _written(model)} | ({"parameters": own} if own else {})
        for model, own in zip(models, settings, strict=True)
    ]
    shared = extra | _shared(theirs, facts, params) | _of_all(recipe, method, facts, place)
    if shared:
        record["parameters"] = shared
    record["dtype"] = "float32"  # in which it is computed
    out_dtype = recipe.dtype or _one_dtype(tensors)
    if out_dtype != "float32":
        record["out_dtype"] = out_dtype
    if recipe.tokenizer is not None:
        if record.get("base_model") != _written(base):
            raise RecipeError(
                f"the recipe has the tokenizer of {recipe.base.path}, which mergekit's "
                f"{recipe.method!r} has no part for"
            )
        if isinstance(recipe.tokenizer, Vocabulary):
            record["tokenizer"] = _tokens(recipe.tokenizer, [recipe.base, *recipe.sources], [
                base, *models])  # fmt: skip
        else:
            record["tokenizer_source"] = recipe.tokenizer
    if recipe.chat_template is not None:
        record["chat_template"] = recipe.chat_template
    return format_yaml(record)


def _tokens(
    vocabulary: Vocabulary, refs: Sequence[ModelRef], models: Sequence[ModelName]
) -> dict[str, object]:
    """The `tokenizer` block of a vocabulary."""
    if not vocabulary.prefer_base:
        raise RecipeError(
            "the recipe averages tokens that several models know (prefer_base is false), which "
            "mergekit does only without a base_model"
        )
    written = {ref.name: _written(model) for ref, model in zip(refs, models, strict=True)}

    def source(row: TokenRow) -> object:
        if row.zero:
            return {"kind": "zero"}
        if row.model is None:
            return None
        of = {"token": row.token, "token_id": row.token_id}
        chosen = {key: value for key, value in of.items() if value is not None}
        model = written[row.model]
        return {"kind": "model_token", "model": model, **chosen} if chosen else model

    block: dict[str, object] = {"source": written.get(vocabulary.model or "", vocabulary.source)}
    if vocabulary.tokens:
        block["tokens"] = {
            token: {"source": source(row), "force": row.force}
            for token, row in vocabulary.tokens.items()
        }
    if vocabulary.pad_to_multiple_of > 1:
        block["pad_to_multiple_of"] = vocabulary.pad_to_multiple_of
    return block


def _theirs(method: str) -> tuple[str, dict[str, object]]:
    """mergekit's name of our method, and the parameter that chooses it."""
    for theirs, (parameter, value, ours) in VARIANTS.items():
        if method == ours:
            return theirs, {parameter: value}
    return method, {}


def _keeps_all(recipe: Recipe, method: Method, place: Mapping[str, str]) -> bool:
    """Whether nothing is dropped, so that nothing is drawn."""
    chosen = (method.selection(recipe, group).per_source for group in set(place.values()))
    return all(set(numbers["density"]) == {1.0} for numbers in chosen)


def _models(recipe: Recipe, of_deltas: bool, adapters: Container[str]) -> list[ModelName]:
    """The sources as mergekit names them; it knows models by their paths."""
    base = ModelName(recipe.base.path, recipe.base.adapter)
    models = [
        ModelName(base.path, ref.path) if ref.path in adapters else ModelName(ref.path, ref.adapter)
        for ref in recipe.sources
    ]
    named = [*models, base] if of_deltas else models
    for model in named:
        if named.count(model) > 1:
            raise RecipeError(
                f"mergekit takes the model {model} once, and the recipe names it twice"
            )
    return models


def _written(model: ModelName) -> object:
    """A model as mergekit reads it: text, or the nested form, since it splits text at every +."""
    if "+" not in f"{model.path}{model.adapter}":
        return str(model)
    nested: dict[str, object] = {"model": {"path": model.path}}
    return nested if model.adapter is None else nested | {"lora": {"path": model.adapter}}


def _per_model(
    recipe: Recipe, method: Method, facts: MergekitMethod, place: Mapping[str, str]
) -> Iterator[dict[str, object]]:
    """The parameters of each source, in order."""
    weights = {group: recipe.weights_at(group) for group in place.values()}
    choices = {group: method.selection(recipe, group).per_source for group in place.values()}
    weighted = bool({"weight", "scale"} & facts.per_model.keys()) or facts.merges == "two"
    if not weighted and {w for ws in weights.values() for w in ws} != {1.0}:
        raise RecipeError(
            f"mergekit's {recipe.method!r} has no weights, and the recipe's are not 1"
        )
    for i in range(len(recipe.sources)):
        settings: dict[str, object] = {}
        for parameter, default in facts.per_model.items():
            if parameter in ("weight", "scale"):
                by_group = {group: values[i] for group, values in weights.items()}
            else:
                by_group = {group: values[parameter][i] for group, values in choices.items()}
            if set(by_group.values()) != {default}:
                settings[parameter] = write_setting(
                    {name: by_group[g] for name, g in place.items()}
                )
        yield settings


def _of_all(
    recipe: Recipe, method: Method, facts: MergekitMethod, place: Mapping[str, str]
) -> dict[str, object]:
    """Numbers of the sources that are parameters of the whole merge in mergekit."""
    if "t" in facts.per_source:
        if facts.merges == "two":
            shares = {group: _share(*recipe.weights_at(group)) for group in place.values()}
        else:
            shares = {g: method.selection(recipe, g).per_source["t"][0] for g in place.values()}
        return {"t": write_setting({name: shares[group] for name, group in place.items()})}
    if "select_topk" in facts.per_source:
        densities = {g: method.selection(recipe, g).per_source["density"] for g in place.values()}
        for group, of_sources in densities.items():
            if len(set(of_sources)) > 1:
                raise RecipeError(
                    f"mergekit's {recipe.method!r} has one select_topk for all sources, and the "
                    f"recipe's density differs between them at {group!r}"
                )
        return {"select_topk": write_setting({name: densities[g][0] for name, g in place.items()})}
    return {}


def _share(first: float, second: float) -> float:
    if first + second <= 0.0:
        raise RecipeError(f"slerp divides by the sum of the weights, {first:g} and {second:g}")
    return second / (first + second)


def _shared(method: str, facts: MergekitMethod, params: Params) -> dict[str, object]:
    """The parameters of the whole merge that are not mergekit's defaults."""
    theirs = {RENAMED.get(name, name): name for name in facts.shared}
    shared: dict[str, object] = {}
    for field, value in params.model_dump(exclude={"from_base"}).items():
        name = theirs.get(field)
        if name is None:
            if value != type(params).model_fields[field].default:
                raise RecipeError(f"mergekit's {method!r} has no parameter for {field}, {value}")
            continue
        value = {ours: value for value, ours in VALUES.get(name, {}).items()}.get(value, value)
        if value != facts.shared[name]:
            shared[name] = value
    return shared


def _one_dtype(tensors: Mapping[str, torch.dtype]) -> str:
    dtypes = sorted({str(dtype).removeprefix("torch.") for dtype in tensors.values()})
    if len(dtypes) != 1:
        raise RecipeError(
            f"the base stores its tensors in {' and '.join(dtypes)}, and mergekit writes one type; "
            "give the recipe a dtype"
        )
    return dtypes[0]
