"""YAML of a merge file -> MergekitConfig; what safemerge cannot express is refused by name.

mergekit ignores keys that it does not know. Here they are idle too, and said, unless they look like
a misspelling of one that matters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, cast, get_args

from safemerge.errors import RecipeError, near_names
from safemerge.mergekit.config import MergekitConfig, ModelEntry, Slice, Token, Tokens
from safemerge.mergekit.model_name import ModelName, read_model
from safemerge.mergekit.settings import Settings, parse_setting
from safemerge.mergekit.text import parse_documents, parse_yaml
from safemerge.recipe import DType

_KEYS = (
    "name",
    "merge_method",
    "base_model",
    "models",
    "slices",
    "modules",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer_source",
    "tokenizer",
    "chat_template",
)
_REFUSED = {
    "experts": "mixtures of experts cannot be built from mergekit-moe files",
    "gate_mode": "mixtures of experts cannot be built from mergekit-moe files",
    "genome": "this is a mergekit-evolve file; `safemerge search` has a configuration of its own",
}
_LOOKS_LIKE = 0.75  # of difflib: wieght and weights are weight, weight_decay is not

Idle = dict[str, object]  # {where.key: value} of keys without an effect


def read_configs(path: str | Path) -> list[MergekitConfig]:
    """Read the documents of a mergekit YAML file; a RecipeError has the file and the line or key.

    Raises:
        RecipeError: one of them is damaged, or says what cannot be expressed; with its number where
            there are several.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise RecipeError(f"cannot read {path}: {error.strerror or error}") from error
    documents = parse_documents(data, str(path))
    where = [str(path) if len(documents) == 1 else f"{path}, document {i + 1}" for i in
             range(len(documents))]  # fmt: skip
    return [_of_document(*pair, Path(path).parent) for pair in zip(documents, where, strict=True)]


def read_config(path: str | Path) -> MergekitConfig:
    """The one document of a mergekit YAML file."""
    configs = read_configs(path)
    if len(configs) > 1:
        raise RecipeError(
            f"{path} holds {len(configs)} documents, which are merged one after another: use "
            "`safemerge merge` without --dry-run"
        )
    return configs[0]


def parse_config(data: bytes, where: str, folder: Path = Path()) -> MergekitConfig:
    """`read_config` for the bytes of a file called `where`, whose paths begin in `folder`."""
    return _of_document(parse_yaml(data, where), where, folder)


def _of_document(record: object, where: str, folder: Path) -> MergekitConfig:
    if not isinstance(record, dict):
        raise RecipeError(
            f"{where} is not a merge file: it holds {_kind(record)}, not keys such as "
            "merge_method and models"
        )
    try:
        return _config(record, folder)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error


def _config(record: dict[str, object], folder: Path) -> MergekitConfig:
    idle: Idle = {}
    record = _known(record, _KEYS, _REFUSED, "", idle)
    method = record.get("merge_method")
    if not isinstance(method, str):
        raise RecipeError(f"merge_method is {method!r}; give the name of a merge method")
    named = record.get("base_model")
    base = None if named is None else read_model(named, "base_model", folder)
    stack, prefix = _stack(record, idle)
    if "models" in stack:
        models = _models(stack["models"], prefix + "models", folder, idle)
        slices: tuple[Slice, ...] = (Slice(None, models, {}),)
    else:
        slices = tuple(
            _slice(item, f"{prefix}slices[{i}]", base, folder, idle)
            for i, item in enumerate(_list(stack["slices"], prefix + "slices"))
        )
    for part in slices:
        names = [entry.model for entry in part.inputs]
        for name in names:
            if names.count(name) > 1:
                raise RecipeError(f"the model {name!r} is listed twice; list it once")
    return MergekitConfig(
        method=method,
        base=base,
        slices=slices,
        parameters=_settings(record, ""),
        module=_settings(stack, prefix.removesuffix(".")) if prefix else {},
        dtype=_dtype(record),
        tokenizer=read_tokens(record, folder, idle),
        name=_name(record.get("name")),
        chat_template=_text(record.get("chat_template"), "chat_template"),
        idle=idle,
    )


def _stack(record: dict[str, object], idle: Idle) -> tuple[dict[str, object], str]:
    """The part of a file that has models or slices, and how its keys begin."""
    given = [key for key in ("models", "slices", "modules") if key in record]
    if len(given) != 1:
        raise RecipeError("give either models or slices (or modules: default), and not both")
    if given == ["modules"]:
        modules = _dict(record["modules"], "modules")
        if list(modules) != ["default"]:
            raise RecipeError(
                f"modules names {', '.join(map(str, modules)) or 'nothing'}; one stack of layers "
                "is merged, give it as modules: default, or give models or slices"
            )
        where = "modules.default"
        keys = ("models", "slices", "parameters")
        record = _known(_dict(modules["default"], where), keys, {}, where, idle)
        if ("models" in record) == ("slices" in record):
            raise RecipeError(f"{where} has to have either models or slices, and not both")
        return record, f"{where}."
    return record, ""


def _text(value: object, where: str) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        raise RecipeError(f"{where} is {value!r:.60}; give a text that is not empty")
    return value


def _name(value: object) -> str | None:
    if isinstance(value, bool | list | dict) or value == "":
        raise RecipeError(f"name is {_kind(value)}; give what the merged model is called")
    return None if value is None else str(value)


def _models(value: object, where: str, folder: Path, idle: Idle) -> tuple[ModelEntry, ...]:
    items = enumerate(_list(value, where))
    return tuple(_entry(item, f"{where}[{i}]", folder, idle)[0] for i, item in items)


def _entry(
    item: object, where: str, folder: Path, idle: Idle, *others: str
) -> tuple[ModelEntry, dict[str, object]]:
    """A model with its parameters, and the whole record, which may have other keys."""
    record = _known(_dict(item, where), ("model", *others, "parameters"), {}, where, idle)
    model = read_model(record.get("model"), f"{where}.model", folder)
    return ModelEntry(model, _settings(record, where)), record


def _slice(value: object, where: str, base: ModelName | None, folder: Path, idle: Idle) -> Slice:
    keys = ("sources", "parameters", "base_model")
    record = _known(_dict(value, where), keys, {}, where, idle)
    own = record.get("base_model")
    if own is not None and read_model(own, f"{where}.base_model", folder) != base:
        raise RecipeError(
            f"{where}.base_model is {record['base_model']!r} and base_model is {base!r}; a recipe "
            "has one base, give it once at the top"
        )
    inputs = []
    for i, item in enumerate(_list(record.get("sources"), f"{where}.sources")):
        place = f"{where}.sources[{i}]"
        entry, fields = _entry(item, place, folder, idle, "layer_range")
        layers = _layer_range(fields.get("layer_range"), f"{place}.layer_range")
        inputs.append(replace(entry, layers=layers))
    counts = {entry.layers[1] - entry.layers[0] for entry in inputs if entry.layers}
    if len(counts) > 1:
        raise RecipeError(
            f"{where} takes {' and '.join(map(str, sorted(counts)))} layers of its models; take as "
            "many of each"
        )
    return Slice(inputs[0].layers, tuple(inputs), _settings(record, where))


def _layer_range(value: object, where: str) -> tuple[int, int]:
    match value:
        case [int(first), int(last)] if 0 <= first < last:
            return first, last
    raise RecipeError(
        f"{where} is {value!r:.60}; give [first layer, one past the last], such as [0, 16]"
    )


def read_tokens(record: dict[str, object], folder: Path, idle: Idle) -> Tokens | None:
    """The `tokenizer` block of a file, or its `tokenizer_source`."""
    source, block = record.get("tokenizer_source"), record.get("tokenizer")
    if source is not None and block is not None:
        raise RecipeError("give either tokenizer_source or tokenizer, and not both")
    if source is not None:
        return Tokens(_token_source(source, "tokenizer_source", folder))
    if block is None:
        return None
    keys = ("source", "tokens", "pad_to_multiple_of")
    fields = _known(_dict(block, "tokenizer"), keys, {}, "tokenizer", idle)
    pad = fields.get("pad_to_multiple_of", 1)
    if not isinstance(pad, int) or isinstance(pad, bool) or pad < 1:
        raise RecipeError(f"tokenizer.pad_to_multiple_of is {pad!r}; give a number from 1 on")
    tokens = _dict(fields.get("tokens", {}), "tokenizer.tokens").items()
    return Tokens(
        _token_source(fields.get("source", "union"), "tokenizer.source", folder),
        {
            token: _token(value, f"tokenizer.tokens[{token!r}]", folder, idle)
            for token, value in tokens
        },
        pad,
    )


def _token_source(value: object, where: str, folder: Path) -> ModelName | Literal["union", "base"]:
    if value == "union" or value == "base":
        return value
    return read_model(value, where, folder)


def _token(value: object, where: str, folder: Path, idle: Idle) -> Token:
    record = _known(_dict(value or {}, where), ("source", "force"), {}, where, idle)
    force, source = record.get("force", False), record.get("source")
    if not isinstance(force, bool):
        raise RecipeError(f"{where}.force is {force!r}, not true or false")
    kind = source.get("kind") if isinstance(source, dict) else None
    if source is None and force:
        raise RecipeError(f"{where} has force and no source; say whose row the token is to have")
    if source is None:
        return Token()
    if kind == "zero":
        return Token(zero=True, force=force)
    if kind is None:
        return Token(read_model(source, f"{where}.source", folder), force=force)
    if kind != "model_token":
        raise RecipeError(f"{where}.source.kind is {kind!r}; known: model_token, zero")
    keys = ("kind", "model", "token", "token_id")
    fields = _known(_dict(source, where), keys, {}, f"{where}.source", idle)
    model = read_model(fields.get("model"), f"{where}.source.model", folder)
    token, token_id = fields.get("token"), fields.get("token_id")
    named = isinstance(token, str) and token_id is None
    if not named and not (isinstance(token_id, int) and token is None and token_id >= 0):
        raise RecipeError(f"{where}.source has to have either token or token_id, and not both")
    return Token(model, False, cast("str | None", token), cast("int | None", token_id), force)


def _dtype(record: dict[str, object]) -> DType | None:
    # mergekit computes in `dtype`; here all arithmetic is float32, so only the output is left.
    for key in ("dtype", "out_dtype"):
        if key in record and record[key] not in get_args(DType):
            raise RecipeError(f"{key} is {record[key]!r}; known: {', '.join(get_args(DType))}")
    return cast("DType | None", record.get("out_dtype", record.get("dtype")))


def _settings(record: dict[str, object], where: str) -> Settings:
    where = f"{where}.parameters" if where else "parameters"
    settings = _dict(record.get("parameters", {}), where)
    return {
        name: parse_setting(value, f"{where}.{name}")
        for name, value in settings.items()
        if value is not None
    }


def _known(
    record: dict[str, object],
    keys: tuple[str, ...],
    refused: dict[str, str],
    where: str,
    idle: Idle,
) -> dict[str, object]:
    """The known keys that are not null; others go to `idle`, or are refused as misspelt."""
    at = f"{where} has " if where else ""
    for key in record:
        if key in refused and record[key] is not None:
            raise RecipeError(f"{at}the key {key!r}, which cannot be expressed: {refused[key]}")
        if key not in keys and key not in refused:
            if looks_like(key, keys):
                raise RecipeError(f"{at}the unknown key {key!r}; {near_names(key, keys)}")
            idle[f"{where}.{key}" if where else key] = record[key]
    return {key: value for key, value in record.items() if key in keys and value is not None}


def looks_like(name: str, known: Iterable[str]) -> bool:
    """Whether a name that is not known is probably one of those, misspelt."""
    return bool(get_close_matches(name, list(known), n=1, cutoff=_LOOKS_LIKE))


def _dict(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise RecipeError(f"{where} is {_kind(value)}; it should hold keys with values")
    return value


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list) or not value:
        raise RecipeError(f"{where} is {_kind(value)}; it should be a list of one or more")
    return value


def _kind(value: object) -> str:
    """A value in words for a message."""
    match value:
        case None | [] | {}:
            return "empty"
        case list():
            return "a list"
        case dict():
            return "keys"
        case _:
            return f"{value!r:.60}"
