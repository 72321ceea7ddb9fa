"""Parsed TOML: `--set` overrides, paths inside tables, and what is wrong in one sentence."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from safemerge.errors import ConfigError, near_names
from safemerge.recipe import first_problem

# Keys of earlier versions, and what they are called now.
_RENAMED = {
    "space": {"off": "zero_prob"},
    "search.warm_start": {
        "ring": "scalarizations",
        "noise": "weight_noise_std",
        "pull": "prior_l2",
    },
}


def update_judges(record: dict[str, Any]) -> None:
    """Name the judges of a run's record as they are named now, and the one that was the default."""

    def named(judge: Any) -> Any:
        if isinstance(judge, list):
            return [named(one) for one in judge]
        kind, equals, model = str(judge).partition("=")
        return f"{kind}+phrases{equals}{model}" if kind == "llama_guard" else judge

    probes = record.get("probes")
    if isinstance(probes, dict):
        probes["judge"] = named(probes.get("judge", "phrases"))
        if "heldout_judge" in probes:
            probes["heldout_judge"] = named(probes["heldout_judge"])


def update_keys(record: dict[str, Any]) -> str | None:
    """Bring the keys of an earlier version up to date; the first that had to be, in a sentence."""
    problems = []
    objectives = record.get("objectives")
    for table in objectives.values() if isinstance(objectives, dict) else ():
        if isinstance(table, dict) and table.pop("maximise", None) is not None:
            problems.append(
                "the key 'maximise' was removed, since every metric has one good direction; leave "
                "it out"
            )
    for section, names in _RENAMED.items():
        keys: Any = record
        for part in section.split("."):
            keys = keys.get(part) if isinstance(keys, dict) else None
        for old, new in names.items() if isinstance(keys, dict) else ():
            if old in keys:
                keys[new] = keys.pop(old)
                problems.append(f"the key {section}.{old} is called {new} now; rename it")
    return problems[0] if problems else None


def join_taxonomy(record: dict[str, Any], folder: Path) -> None:
    """Make `probes.write.taxonomy`, where it names a file, relative to the config's folder."""
    probes = record.get("probes")
    write = probes.get("write") if isinstance(probes, dict) else None
    if isinstance(write, dict) and isinstance(write.get("taxonomy"), str):
        write["taxonomy"] = str(folder / write["taxonomy"])


def without_none(value: Any) -> Any:
    """`value` without None values in its tables, since TOML has none."""
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_none(item) for item in value]
    return value


def set_key(record: dict[str, Any], override: str) -> None:
    """Set `a.b` of a parsed file by an override `a.b=c`; a ConfigError where it is none."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override!r} is not of the form a.b=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word, such as merge.method=tsvm
    *parents, last = key.strip().split(".")
    for parent in parents:
        record = record.setdefault(parent, {})
        if not isinstance(record, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} is a value, not a section")
    record[last] = value


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """An unknown key of `model` with the nearest one of its section, else the first problem."""
    unknown = [problem for problem in error.errors() if problem["type"] == "extra_forbidden"]
    if not unknown:
        return first_problem(error)
    problem = unknown[0]
    *parents, key = [str(part) for part in problem["loc"]]
    known = _fields_at(model, parents)
    return f"unknown key {'.'.join([*parents, key])!r}; {near_names(key, known)}"


def _fields_at(model: type[BaseModel], parents: list[str]) -> list[str]:
    for part in parents:
        for name, field in model.model_fields.items():
            if part in (name, field.alias):
                inner = [field.annotation, *get_args(field.annotation)]
                models = [kind for kind in inner if isinstance(kind, type)]
                model = next((kind for kind in models if issubclass(kind, BaseModel)), model)
    return [field.alias or name for name, field in model.model_fields.items()]
