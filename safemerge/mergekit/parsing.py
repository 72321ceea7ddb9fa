"""YAML of a merge file -> MergekitConfig; what safemerge cannot express is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

from safemerge.errors import RecipeError, near_names
from safemerge.mergekit.config import MergekitConfig, ModelEntry, Slice
from safemerge.mergekit.model_name import ModelName, read_model
from safemerge.mergekit.settings import Settings, parse_setting
from safemerge.mergekit.text import parse_yaml
from safemerge.recipe import DType

_KEYS = (
    "name",
    "merge_method",
    "base_model",
    "models",
    "slices",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer_source",
)
_REFUSED = {
    "modules": "safemerge merges models of one stack; give models or slices",
    "tokenizer": "tokens cannot be edited; write tokenizer_source: base, or leave it out",
    "chat_template": "the base's chat template is kept; put another into the output afterwards",
    "experts": "mixtures of experts cannot be built from mergekit-moe files",
    "gate_mode": "mixtures of experts cannot be built from mergekit-moe files",
    "genome": "this is a mergekit-evolve file; `safemerge search` has a configuration of its own",
}
_SLICE_REFUSED = {"residual_weight": "it has no meaning in a merge of whole layers"}


def read_config(path: str | Path) -> MergekitConfig:
    """Read a mergekit YAML file; a RecipeError has the file and the line or key."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise RecipeError(f"cannot read {path}: {error.strerror or error}") from error
    return parse_config(data, str(path), Path(path).parent)


def parse_config(data: bytes, where: str, folder: Path = Path()) -> MergekitConfig:
    """`read_config` for the bytes of a file called `where`, whose paths begin in `folder`."""
    record = parse_yaml(data, where)
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
    record = _known(record, _KEYS, _REFUSED, "")
    method = record.get("merge_method")
    if not isinstance(method, str):
        raise RecipeError(f"merge_method is {method!r}; give the name of a merge method")
    named = record.get("base_model")
    base = None if named is None else read_model(named, "base_model", folder)
    if base is not None and base.adapter is not None:
        raise RecipeError(
            f"base_model is {base!r}, a model with a LoRA adapter; merge the adapter into it first "
            "(peft: merge_and_unload) and give that folder. For a folder with a + in its name, "
            "which is not there, write {model: {path: FOLDER}}"
        )
    if ("models" in record) == ("slices" in record):
        raise RecipeError("give either models or slices, and not both")
    if "models" in record:
        slices: tuple[Slice, ...] = (Slice(None, _models(record["models"], folder), {}),)
    else:
        slices = tuple(
            _slice(item, f"slices[{i}]", base, folder)
            for i, item in enumerate(_list(record["slices"], "slices"))
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
        dtype=_dtype(record),
        tokenizer="base" if base is not None and tokenizer in ("base", str(base)) else None,
        name=_name(record.get("name")),
    )


def _name(value: object) -> str | None:
    if isinstance(value, bool | list | dict) or value == "":
        raise RecipeError(f"name is {_kind(value)}; give what the merged model is called")
    return None if value is None else str(value)


def _models(value: object, folder: Path) -> tuple[ModelEntry, ...]:
    items = enumerate(_list(value, "models"))
    return tuple(_entry(item, f"models[{i}]", folder)[0] for i, item in items)


def _entry(
    item: object, where: str, folder: Path, *others: str
) -> tuple[ModelEntry, dict[str, object]]:
    """A model with its parameters, and the whole record, which may have other keys."""
    record = _known(_dict(item, where), ("model", *others, "parameters"), {}, where)
    model = read_model(record.get("model"), f"{where}.model", folder)
    return ModelEntry(model, _settings(record, where)), record


def _slice(value: object, where: str, base: ModelName | None, folder: Path) -> Slice:
    keys = ("sources", "parameters", "base_model")
    record = _known(_dict(value, where), keys, _SLICE_REFUSED, where)
    own = record.get("base_model")
    if own is not None and read_model(own, f"{where}.base_model", folder) != base:
        raise RecipeError(
            f"{where}.base_model is {record['base_model']!r} and base_model is {base!r}; a recipe "
            "has one base, give it once at the top"
        )
    inputs, ranges = [], []
    for i, item in enumerate(_list(record.get("sources"), f"{where}.sources")):
        place = f"{where}.sources[{i}]"
        entry, fields = _entry(item, place, folder, "layer_range")
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
    record: dict[str, object], keys: tuple[str, ...], refused: dict[str, str], where: str
) -> dict[str, object]:
    """The record without null values; a key that is not known is refused."""
    at = f"{where} has " if where else ""
    for key in record:
        if key in refused and record[key] is not None:
            raise RecipeError(f"{at}the key {key!r}, which cannot be expressed: {refused[key]}")
        if key not in keys and key not in refused:
            raise RecipeError(f"{at}the unknown key {key!r}; {near_names(key, keys)}")
    return {key: value for key, value in record.items() if value is not None}


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
