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


@dataclass(frozen=True, slots=True)
class Slice:
    """Layers that are merged alike."""

    layers: tuple[int, int] | None  # first and one past the last, or None for the whole stack
    inputs: tuple[ModelEntry, ...]  # the models, in order
    parameters: Settings  # settings for all of them


@dataclass(frozen=True, slots=True)
class MergekitConfig:
    """What a mergekit YAML file says."""

    method: str  # its `merge_method`
    base: ModelName | None  # its `base_model`
    slices: tuple[Slice, ...]  # at least one; all have the same models in the same order
    parameters: Settings  # settings for the whole merge
    dtype: DType | None  # of the written tensors (`out_dtype`, else `dtype`); None keeps the base's
    tokenizer: Literal["base"] | None  # "base" where `tokenizer_source` says so
    name: str | None = None  # what the merged model is called
    chat_template: str | None = None  # "auto", a name, or a text
    module: Settings = field(default_factory=dict)  # settings of `modules: default:`
    idle: Mapping[str, object] = field(default_factory=dict)  # {key: value} without an effect

    @property
    def models(self) -> tuple[ModelName, ...]:
        """The models listed, in order."""
        return tuple(entry.model for entry in self.slices[0].inputs)

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
        return replace(self, slices=slices, base=self.base and moved(self.base))

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
