"""Which models of a merge file are the base and which the sources, by what the method merges."""

from __future__ import annotations

from dataclasses import dataclass
from os.path import normpath
from pathlib import PurePosixPath

from safemerge.errors import RecipeError, near_names
from safemerge.mergekit.config import MergekitConfig
from safemerge.mergekit.model_name import ModelName
from safemerge.mergekit.reference import MERGEKIT_METHODS, MergekitMethod
from safemerge.methods import METHODS
from safemerge.recipe import ModelRef


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays what."""

    facts: MergekitMethod  # mergekit's facts about the method
    base: ModelName  # where deltas are taken from; any model where the method merges models
    sources: tuple[ModelName, ...]  # the models that are merged, in order, as the file names them


def cast_of(config: MergekitConfig) -> Cast:
    """Look the method up, and tell the base from the sources."""
    method, listed = config.method, config.models
    facts = _facts(method)
    wholes = [ModelName(model.path) for model in listed if model.adapter is not None]
    if facts.merges == "models" or (facts.merges == "either" and config.base is None):
        # mergekit adds a base_model that is not listed to the models, and averages it with them.
        added = config.slices[0].layers is None and config.base not in (None, *listed)
        sources = (*listed, config.base) if added and config.base else listed
        return Cast(facts, config.base or (wholes or listed)[0], sources)
    if config.base is None:
        raise RecipeError(
            f"merge_method {method!r} starts from a base; name it as base_model, the model that "
            "the others were trained from"
        )
    others = tuple(model for model in listed if model != config.base)
    if not others:
        raise RecipeError(f"no model is listed besides the base_model {config.base!r}; add one")
    if facts.most is not None and len(others) > facts.most:
        raise RecipeError(
            f"merge_method {method!r} merges {facts.most} with the base_model, and the file lists "
            f"{len(others)} ({', '.join(map(str, others))}); leave the others out"
        )
    both = facts.merges == "two"
    return Cast(facts, config.base, (config.base, *others) if both else others)


def named(cast: Cast) -> list[ModelRef]:
    """Base and sources under different short names, taken from their paths."""
    refs = []
    taken: set[str] = set()
    for model in (*cast.sources, cast.base):
        # An adapter of the base is a source of its own; of another model, it is merged into that.
        of_base = cast.base.adapter is None and normpath(model.path) == normpath(cast.base.path)
        delta = model.adapter is not None and of_base
        path = (model.adapter or model.path) if delta else model.path
        stem = PurePosixPath(path.partition("@")[0]).name or "model"
        label = next(
            name
            for name in (stem, *(f"{stem}-{i}" for i in range(2, len(cast.sources) + 3)))
            if name not in taken
        )
        taken.add(label)
        refs.append(ModelRef(name=label, path=path, adapter=None if delta else model.adapter))
    return [refs[-1], *refs[:-1]]


def _facts(method: str) -> MergekitMethod:
    if method in MERGEKIT_METHODS:
        return MERGEKIT_METHODS[method]
    if method in METHODS:
        raise RecipeError(f"mergekit has no merge method {method!r}; write a recipe (JSON) for it")
    raise RecipeError(f"unknown merge_method {method!r}; {near_names(method, MERGEKIT_METHODS)}")
