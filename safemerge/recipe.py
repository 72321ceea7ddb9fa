"""Recipe: everything that determines one merged model, as a frozen value.

The same recipe over the same inputs writes the same bytes. Its hash covers content hashes in place
of paths.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from safemerge.errors import RecipeError
from safemerge.names import valid_profile

DType = Literal["float32", "bfloat16", "float16"]
ParamValue = bool | int | float | str
Profile = Annotated[str, AfterValidator(valid_profile)]


class ModelRef(BaseModel):
    """A checkpoint that takes part in a merge.

    Args:
        name: the short name that weights refer to.
        path: a folder, or a hub id with an optional `@revision`.
        content: content hash; where given, a checkpoint with other content is refused.
        importance: of a source, its importance file.
        adapter: a LoRA adapter, a folder or hub id, that is merged into the model first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    path: str = Field(min_length=1)
    content: str | None = None
    importance: str | None = None
    adapter: str | None = None

    @model_serializer(mode="wrap")
    def _shortly(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(("adapter",), write(self))

    def relative_to(self, folder: Path) -> ModelRef:
        """The reference with those of its paths that exist in the folder taken from there."""
        given = {"path": self.path, "importance": self.importance, "adapter": self.adapter}
        local = {
            key: str(folder / path)
            for key, path in given.items()
            if path is not None and not Path(path).is_absolute() and (folder / path).exists()
        }
        return self.model_copy(update=local) if local else self


class TokenRow(BaseModel):
    """Where a token's rows of embedding and head come from; of a token without a choice the rules
    of `Vocabulary` say it.

    Args:
        model: the name of a model of the recipe.
        zero: all zeros instead.
        token: another token of that model, whose rows are taken.
        token_id: or the index of those rows.
        force: in all models; else only in those that lack the token.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = None
    zero: bool = False
    token: str | None = None
    token_id: int | None = Field(default=None, ge=0)
    force: bool = False


class Vocabulary(BaseModel):
    """One vocabulary for models with different tokenizers (`io.merged_vocabulary`).

    Args:
        source: "union" of all tokens, or the tokenizer of the "base" or of a "model".
        model: the name of that model.
        tokens: rows of single tokens, which are added where they are new.
        pad_to_multiple_of: the number of rows is one of that.
        prefer_base: a token that several models know, and not all, has the base's row in those
            that lack it; else the mean of those that know it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["union", "base", "model"] = "union"
    model: str | None = None
    tokens: dict[str, TokenRow] = {}
    pad_to_multiple_of: int = Field(default=1, ge=1, le=65536)
    prefer_base: bool = True


class Recipe(BaseModel):
    """One merged model.

    Args:
        base: the model the deltas are taken from.
        sources: the experts to merge, at least one; the order is part of the recipe.
        method: a key of `safemerge.methods.METHODS`.
        params: the method's own parameters, such as `{"scale": 0.9}`.
        places: profile of place groups (`safemerge.names`).
        weights: `{group: {source: weight}}`, finite; the group "default" serves every group that
            is not named. A source that a group leaves out has weight 0 there.
        rank_ratio: `{group: ratio}` in (0, 1], the share of each delta's rank that spectral
            methods keep; "default" as above; a group without a ratio uses the method's own rank.
        per_source: `{number: {group: {source: value}}}`, the numbers that a method has for each
            source beside the weight, such as density; "default" as above. A source that is left out
            has the method's default.
        dtype: of the written tensors; None keeps the base's.
        tokenizer: "base" maps the rows of embeddings and heads from each source's tokenizer to the
            base's, by token; a `Vocabulary` gives all models a new one; None refuses sources whose
            tokenizer differs.
        stack: the layers of the merged model, where these are not the base's: slices in order,
            `{model: [first layer, one past its last]}`, of one length each. A model that a slice
            leaves out has weight 0 there.
        experts: "fused" merges the experts of a layer as one tensor, as mergekit does; None each
            matrix by itself.
        chat_template: of the merged model: "auto" (the commonest of the models), a name, or a Jinja
            text (`io.chat_templates`); None keeps the base's.
        ignored: keys of a mergekit file that have no effect, there and here, with their values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    base: ModelRef
    sources: tuple[ModelRef, ...] = Field(min_length=1)
    method: str
    params: dict[str, ParamValue] = {}
    places: Profile = "global"
    weights: dict[str, dict[str, float]]
    rank_ratio: dict[str, float] = {}
    per_source: dict[str, dict[str, dict[str, float]]] = {}
    dtype: DType | None = None
    tokenizer: Literal["base"] | Vocabulary | None = None
    stack: tuple[dict[str, tuple[int, int]], ...] = ()
    experts: Literal["fused"] | None = None
    chat_template: str | None = Field(default=None, min_length=1)
    ignored: dict[str, Any] = {}

    @model_serializer(mode="wrap")
    def _shortly(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(_RARE, write(self))

    @model_validator(mode="after")
    def _values_in_range(self) -> Recipe:
        names = [source.name for source in self.sources]
        if len({*names, self.base.name}) != len(names) + 1:
            raise ValueError(
                f"base and sources need different names, got {self.base.name}, {names}"
            )
        if not self.weights:
            raise ValueError("weights is empty; give at least {'default': {source: weight}}")
        for number, by_group in {"weights": self.weights, **self.per_source}.items():
            for group, by_source in by_group.items():
                for source, value in by_source.items():
                    at = f"{number}[{group!r}]"
                    if source not in names:
                        raise ValueError(f"{at} names {source!r}; sources are {names}")
                    if not math.isfinite(value):
                        raise ValueError(f"{at}[{source!r}] is {value}, not finite")
        self._check_models([self.base.name, *names])
        for group, ratio in self.rank_ratio.items():
            if not 0.0 < ratio <= 1.0:
                raise ValueError(f"rank_ratio[{group!r}] is {ratio}; the range is (0, 1]")
        return self

    def _check_models(self, names: list[str]) -> None:
        """Refuse models of the stack and the vocabulary that the recipe does not have."""
        named: list[str | None] = [name for part in self.stack for name in part]
        if isinstance(self.tokenizer, Vocabulary):
            named += [row.model for row in self.tokenizer.tokens.values()]
            named += [self.tokenizer.model]
            if (self.tokenizer.source == "model") != (self.tokenizer.model is not None):
                raise ValueError(
                    "tokenizer.model names a model, with source: 'model' and only then"
                )
        for name in named:
            if name is not None and name not in names:
                raise ValueError(f"there is no model {name!r}; the recipe's are {names}")
        for i, part in enumerate(self.stack):
            if not part or any(not 0 <= first < end for first, end in part.values()):
                raise ValueError(
                    f"stack[{i}] is {part}; give {{model: [first, one past its last]}}"
                )
            if len({end - first for first, end in part.values()}) > 1:
                raise ValueError(f"stack[{i}] is {part}; its models have to have as many layers")

    def weights_at(self, group: str) -> list[float]:
        """Weights of the sources, in order, at a place group; shape (n_sources,)."""
        by_source = self.weights.get(group, self.weights.get("default"))
        if by_source is None:
            raise RecipeError(
                f"the recipe has no weights for place group {group!r} and no 'default'; "
                f"it names {', '.join(sorted(self.weights)[:6])}"
            )
        return [by_source.get(source.name, 0.0) for source in self.sources]

    def rank_ratio_at(self, group: str) -> float | None:
        """Rank ratio at a place group, or None for the method's own rank."""
        return self.rank_ratio.get(group, self.rank_ratio.get("default"))

    def per_source_at(self, number: str, group: str) -> Mapping[str, float]:
        """Values of a per-source number at a place group: `{source: value}`, possibly partial."""
        by_group = self.per_source.get(number, {})
        return by_group.get(group, by_group.get("default", {}))

    def canonical_json(self) -> str:
        """JSON with sorted keys and no spaces: equal recipes give equal text."""
        return _canonical(self.model_dump(mode="json"))

    def hash(self, contents: Mapping[str, str]) -> str:
        """SHA-256 (hex) of this recipe over inputs with the content hashes of `Inputs.contents`."""
        record = self.model_dump(mode="json", exclude={"ignored"})
        for model in (record["base"], *record["sources"]):
            model["content"] = contents[model["name"]]
            if model["importance"] is not None:
                model["importance"] = contents[f"{model['name']} importance"]
            del model["path"]
            model.pop("adapter", None)  # which is part of the content
        return hashlib.sha256(_canonical(record).encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str, *, where: str = "recipe") -> Recipe:
        """Parse a recipe; anything wrong with it is one RecipeError that names `where`."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise RecipeError(f"{where}: {first_problem(error)}") from error

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe file; relative paths that exist in its folder are taken from there."""
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"cannot read the recipe {path}: {error}") from error
        return cls.from_json(text, where=str(path)).relative_to(path.parent)

    def relative_to(self, folder: Path) -> Recipe:
        """The recipe with those of its paths that exist in the folder taken from there."""
        sources = tuple(source.relative_to(folder) for source in self.sources)
        return self.model_copy(update={"base": self.base.relative_to(folder), "sources": sources})

    def save(self, path: str | Path) -> None:
        """Write indented JSON with sorted keys."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1)
        Path(path).write_text(text + "\n", encoding="utf-8")


def first_problem(error: ValidationError) -> str:
    """The first problem of a pydantic error as `key: message, got value`.

    An unknown key comes before a missing one, which it may have been meant to be.
    """
    problem = min(error.errors(), key=lambda problem: problem["type"] == "missing")
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{key} is missing, and it has no default"
    if problem["type"] == "extra_forbidden":
        return f"there is no key {key!r}; correct its spelling or remove it"
    if problem["type"] == "json_invalid":
        return f"it is not JSON ({problem['ctx']['error']})"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key or 'value'}: {message}, got {problem['input']!r:.80}"


# Keys that are left out where they say nothing, so that hashes of earlier recipes stay.
_RARE = ("stack", "experts", "chat_template", "ignored")


def _without(rare: tuple[str, ...], record: dict[str, Any]) -> dict[str, Any]:
    """The record without those rare keys that hold nothing."""
    return {key: value for key, value in record.items() if key not in rare or value}


def _canonical(record: dict[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
