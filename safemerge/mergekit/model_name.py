"""How a merge file names a model: as text, MODEL or MODEL+ADAPTER, or in mergekit's nested form.

mergekit splits text at every +. A folder may have one in its name, so here what is on the disk
decides; the nested form, {model: {path: ..., revision: ...}, lora: {path: ...}}, says it outright.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safemerge.errors import RecipeError, near_names
from safemerge.io import is_hub_id

_NESTED = ("model", "lora", "override_architecture")
_PATH = ("path", "revision")


@dataclass(frozen=True, slots=True, repr=False)
class ModelName:
    """A model, perhaps with a LoRA adapter."""

    path: str  # a folder, or a hub id with an optional @revision
    adapter: str | None = None

    def __str__(self) -> str:
        return self.path if self.adapter is None else f"{self.path}+{self.adapter}"

    def __repr__(self) -> str:
        return repr(str(self))


def read_model(value: object, where: str, folder: Path) -> ModelName:
    """The model that a value of a merge file in `folder` names; a RecipeError where it is none."""
    if isinstance(value, dict):
        return _nested(value, where)
    if not isinstance(value, str) or not value:
        raise RecipeError(
            f"{where} is {value!r:.60}; give a folder or a hub id such as org/name@revision "
            "(in quotes if it looks like a number)"
        )

    def is_there(text: str) -> bool:
        return os.path.exists(folder / text) or os.path.exists(text)

    if "+" not in value or is_there(value):
        return ModelName(value)
    return _split(value, where, is_there)


def _split(value: str, where: str, is_there: Callable[[str], bool]) -> ModelName:
    """Text with a + that is no folder as a model and its adapter."""
    at = [index for index, letter in enumerate(value) if letter == "+"]
    ways = [(value[:index], value[index + 1 :]) for index in at]
    if len(ways) > 1:
        ways = [way for way in ways if all(is_there(side) or is_hub_id(side) for side in way)]
    if len(ways) != 1 or not all(ways[0]):
        raise RecipeError(
            f"{where} is {value!r}; a + stands between a model and one LoRA adapter. For a folder "
            "with a + in its name, which is not there, write {model: {path: FOLDER}}"
        )
    return ModelName(*ways[0])


def _nested(value: dict[str, object], where: str) -> ModelName:
    if "path" in value:
        return ModelName(_path(value, where))
    for key in value:
        if key not in _NESTED:
            raise RecipeError(f"{where} has the unknown key {key!r}; {near_names(key, _NESTED)}")
    if value.get("override_architecture") is not None:
        raise RecipeError(
            f"{where} has override_architecture, which cannot be expressed: tensors are merged by "
            "their names; leave it out"
        )
    adapter = value.get("lora")
    model = _path(value.get("model"), f"{where}.model")
    return ModelName(model, None if adapter is None else _path(adapter, f"{where}.lora"))


def _path(value: object, where: str) -> str:
    """A path of the nested form, which no + divides."""
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, dict):
        raise RecipeError(f"{where} is {value!r:.60}; give a path, or {{path: ..., revision: ...}}")
    for key in value:
        if key not in _PATH:
            raise RecipeError(f"{where} has the unknown key {key!r}; {near_names(key, _PATH)}")
    path, revision = value.get("path"), value.get("revision")
    for key, part in (("path", path), ("revision", revision)):
        if not isinstance(part, str | None) or part == "" or (key, part) == ("path", None):
            raise RecipeError(f"{where}.{key} is {part!r:.60}; give a text that is not empty")
    return f"{path}" if revision is None else f"{path}@{revision}"
