"""A mergekit YAML file as a checked value; `parsing.py` reads one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

from safemerge.mergekit.model_name import ModelName
from safemerge.mergekit.settings import Setting, Settings
from safemerge.recipe import DType


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that takes part, with the parameters given for it."""

    model: ModelName
    parameters: Settings  # settings by name
    layers: tuple[int, int] | None = None  # in a slice: first and one past the last


@dataclass(frozen=True, slots=True)
class Token:
    """Where the rows of a token come from."""

    model: ModelName | None = None
    zero: bool = False
    token: str | None = None
    token_id: int | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Tokens:
    """The vocabulary of the merged model."""

    source: ModelName | Literal["union", "base"]
    tokens: Mapping[str, Token] = field(default_factory=dict)
    pad_to_multiple_of: int = 1


@dataclass(frozen=True, slots=True)
class Slice:
    """Layers that are merged alike."""

    layers: tuple[int, int] | None  # of the first model; None for the whole stack
    inputs: tuple[ModelEntry, ...]  # the models, in order
    parameters: Settings  # settings for all of them


@dataclass(frozen=True, slots=True)
class MergekitConfig:
    """What a mergekit YAML file says."""

    method: str  # its `merge_method`
    base: ModelName | None  # its `base_model`
    slices: tuple[Slice, ...]  # at least one
    parameters: Settings  # settings for the whole merge
    dtype: DType | None  # of the written tensors (`out_dtype`, else `dtype`); None keeps the base's
    tokenizer: Tokens | None  # None takes the base's, which all have to have
    name: str | None = None  # what the merged model is called
    chat_template: str | None = None  # "auto", a name, or a text
    module: Settings = field(default_factory=dict)  # settings of `modules: default:`
    idle: Mapping[str, object] = field(default_factory=dict)  # {key: value} without an effect

    @property
    def models(self) -> tuple[ModelName, ...]:
        """The models listed, in order."""
        listed = (entry.model for part in self.slices for entry in part.inputs)
        return tuple(dict.fromkeys(listed))

    @property
    def depth(self) -> int:
        """Layers of the slices together; 0 without slices."""
        return sum(part.layers[1] - part.layers[0] for part in self.slices if part.layers)

    def is_stacked(self, depth: int) -> bool:
        """Whether the layers are others than those of a model of that depth, in order."""
        reached = 0
        for part in self.slices:
            if part.layers is None:
                return False
            whole = {entry.model for entry in part.inputs} == {*self.models}
            if part.layers[0] != reached or not whole:
                return True
            if any(entry.layers != part.layers for entry in part.inputs):
                return True
            reached = part.layers[1]
        return reached != depth

    @property
    def scopes(self) -> tuple[Settings, ...]:
        """Every block of settings in the file."""
        per_slice = (
            settings
            for part in self.slices
            for settings in (part.parameters, *(entry.parameters for entry in part.inputs))
        )
        return (self.parameters, self.module, *per_slice)

    @property
    def wider(self) -> tuple[Settings, ...]:
        """The settings for all models and slices, the narrower first."""
        return (self.module, self.parameters)

    def with_paths(self, paths: Mapping[str, str]) -> MergekitConfig:
        """The same with other paths of models: `{path: path}`."""

        def moved(model: ModelName) -> ModelName:
            return replace(model, path=paths.get(model.path, model.path))

        slices = tuple(
            replace(part, inputs=tuple(replace(e, model=moved(e.model)) for e in part.inputs))
            for part in self.slices
        )
        tokenizer = self.tokenizer
        if tokenizer is not None:
            source, tokens = tokenizer.source, tokenizer.tokens.items()
            tokenizer = replace(
                tokenizer,
                source=source if isinstance(source, str) else moved(source),
                tokens={k: replace(t, model=t.model and moved(t.model)) for k, t in tokens},
            )
        base = self.base and moved(self.base)
        return replace(self, slices=slices, base=base, tokenizer=tokenizer)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting in the file."""
        return tuple(chain.from_iterable(scope.values() for scope in self.scopes))

    @property
    def has_gradients(self) -> bool:
        """Whether a setting is a list of values over depth."""
        return any(len(case.values) > 1 for setting in self.settings for case in setting)

    @property
    def is_uniform(self) -> bool:
        """Whether nothing depends on the tensor: one slice, no filters, no gradients."""
        firsts = [setting[0] for setting in self.settings]
        plain = all(case.filter is None and len(case.values) == 1 for case in firsts)
        return plain and self.slices[0].layers is None
