"""A model's reply as one JSON object: its schema, and how it is read strictly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def object_schema(**fields: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object with exactly these fields, in this order."""
    return {
        "type": "object",
        "properties": fields,
        "required": [*fields],
        "additionalProperties": False,
    }


def reasoned_schema(key: str, words: Sequence[str]) -> dict[str, Any]:
    """One word of several under `key`; a reason comes first, so that the word follows from it."""
    reason = {"type": "string", "maxLength": 300}
    return object_schema(reason=reason, **{key: {"type": "string", "enum": [*words]}})


def read_reasoned(text: str, key: str) -> str | None:
    """The word in a text that is one object of `reasoned_schema`, each key once; else None."""
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    # A list of pairs shows a key that was given twice, which a dict would hide.
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        return None
    fields = dict(pairs)
    if len(pairs) != 2 or fields.keys() != {"reason", key}:
        return None
    return fields[key] if all(isinstance(value, str) for value in fields.values()) else None
