"""[models] and [merge]: what is merged, and how. Keys are explained in template.toml."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from safemerge.recipe import DType, ParamValue
from search.config.section import Section
from synth.engines.template import ChatSettings
from synth.engines.thinking import Thinking

# Rows of the held-out table and coordinates of the space that a source's name would hide.
RESERVED = frozenset(
    {"base", "uniform", "best_single_weight", "random_search", "search_without_safety", "search"}
    | {"rank", "h3fusion"}
)
_BASELINES = ("evomm_", "grid_", "lm_cocktail")  # beginnings of rows


class SourceConfig(Section):
    """One source, and the importance file that methods such as LED need of it."""

    name: str = Field(min_length=1)
    path: str = Field(min_length=1)
    importance: str | None = None


class ModelsConfig(Section):
    """Base, sources, and how all of them are talked to."""

    base: str = Field(min_length=1)
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    template: str | None = Field(default=None, min_length=1)
    thinking: Thinking = "off"
    thinking_tokens: int = Field(default=1024, ge=1)

    @model_validator(mode="after")
    def _names_are_free(self) -> ModelsConfig:
        names = [source.name for source in self.sources]
        for name in names:
            reserved = name in RESERVED or name.startswith(_BASELINES)
            if names.count(name) > 1 or reserved:
                taken = "twice among the sources" if names.count(name) > 1 else "by safemerge"
                raise ValueError(f"the source name {name!r} is used {taken}; choose another")
        return self

    @property
    def chat(self) -> ChatSettings:
        """How the models are talked to."""
        return ChatSettings(self.template, self.thinking, self.thinking_tokens)


class MergeConfig(Section):
    """Merge method, its fixed parameters, the dtype of exports, and whose tokenizer they have."""

    method: str | tuple[str, ...] = "resm"
    params: dict[str, ParamValue | dict[str, ParamValue]] = Field(default={})
    dtype: DType | None = None
    tokenizer: Literal["base"] | None = None

    @model_validator(mode="after")
    def _params_belong_to_methods(self) -> MergeConfig:
        if isinstance(self.method, str):
            tables = [key for key, value in self.params.items() if isinstance(value, dict)]
            if tables:
                raise ValueError(
                    f"params.{tables[0]} is a table, which only several methods need; write "
                    f"params = {{ ... }} for {self.method!r} itself"
                )
            return self
        if not self.method or len(set(self.method)) != len(self.method):
            raise ValueError(f"method is {list(self.method)}; name one or more, each once")
        for key, value in self.params.items():
            if key not in self.method or not isinstance(value, dict):
                raise ValueError(
                    f"params.{key} is not a table of one of the methods {', '.join(self.method)}; "
                    "with several methods, write params.METHOD = { ... }"
                )
        return self

    @property
    def methods(self) -> dict[str, dict[str, ParamValue]]:
        """`{method: fixed parameters}`, in order."""
        if isinstance(self.method, str):
            tables: dict[str, Any] = {self.method: self.params}
        else:
            tables = {name: self.params.get(name, {}) for name in self.method}
        return tables
