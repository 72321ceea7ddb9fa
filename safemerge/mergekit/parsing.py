"""YAML of a merge file -> MergekitConfig; what safemerge cannot express is refused by name.

mergekit ignores keys that it does not know. Here they are idle too, and said, unless they look like
a misspelling of one that matters.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import cast, get_args

from safemerge.errors import RecipeError, near_names
from safemerge.mergekit.config import MergekitConfig, ModelEntry, Slice
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
    "chat_template",
)
_REFUSED = {
    "tokenizer": "tokens cannot be edited; write tokenizer_source: base, or leave it out",
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
        _check_slices(slices)
    for part in slices:
        names = [entry.model for entry in part.inputs]
        for name in names:
            if names.count(name) > 1:
                raise RecipeError(f"the model {name!r} is listed twice; list it once")
    tokenizer = record.get("tokenizer_source")
    _check_tokenizer(tokenizer, base)
    return MergekitConfig(
        method=method,
        base=base,
        slices=slices,
        parameters=_settings(record, ""),
        module=_settings(stack, prefix.removesuffix(".")) if prefix else {},
        dtype=_dtype(record),
        tokenizer="base" if base is not None and tokenizer in ("base", str(base)) else None,
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
    inputs, ranges = [], []
    for i, item in enumerate(_list(record.get("sources"), f"{where}.sources")):
        place = f"{where}.sources[{i}]"
        entry, fields = _entry(item, place, folder, idle, "layer_range")
        inputs.append(entry)
        ranges.append(_layer_range(fields.get("layer_range"), f"{place}.layer_range"))
    if len(set(ranges)) > 1:
        raise RecipeError(
            f"{where} takes layers {list(ranges[0])} of one model and "
            f"{list(next(r for r in ranges if r != ranges[0]))} of another; only the same layers "
            "can be merged"
        )
    return Slice(ranges[0], tuple(inputs), _settings(record, where))


def _layer_range(value: object, where: str) -> tuple[int, int]:
    match value:
        case [int(first), int(last)] if 0 <= first < last:
            return first, last
    raise RecipeError(
        f"{where} is {value!r:.60}; give [first layer, one past the last], such as [0, 16]"
    )


def _check_slices(slices: tuple[Slice, ...]) -> None:
    """Slices follow each other from layer 0 on, and hold the same models."""
    reached = 0
    names = {entry.model for entry in slices[0].inputs}
    for i, part in enumerate(slices):
        assert part.layers is not None  # _slice has read them
        if part.layers[0] != reached:
            raise RecipeError(
                f"slices[{i}] begins at layer {part.layers[0]}, expected {reached}: layers that "
                "are left out, repeated or in another order cannot be expressed"
            )
        reached = part.layers[1]
        if {entry.model for entry in part.inputs} != names:
            raise RecipeError(
                f"slices[{i}] does not have the models of slices[0]; list every model in every "
                "slice, with weight 0 where it should not count"
            )


def _check_tokenizer(source: object, base: ModelName | None) -> None:
    # Where tokens are not mapped, tokenizers other than the base's are refused when checkpoints are
    # opened, so where a merge with the union goes on at all, that is the base's.
    if source is not None and source not in ("base", "union", str(base)):
        raise RecipeError(
            f"tokenizer_source is {source!r}; the output has the base's tokenizer, write "
            "tokenizer_source: base, or leave it out"
        )


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
