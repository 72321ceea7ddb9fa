"""A model's reply as one JSON object: its schema, and how it is read strictly.

The object is found wherever it stands: alone, in a code fence of any name, after words, after
thinking. There must be one: a second one, a key given twice or an object that is not closed makes
the reply unreadable, so that nothing that a reply quotes can speak for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from synth.text.reply import read_reply

_START = re.compile(r'\{\s*["}]')  # of an object; other braces are part of the words


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


def read_object(reply: str) -> dict[str, Any] | None:
    """The one JSON object of a reply; None if there is none, more than one, or a key twice."""
    text = read_reply(reply).answer
    found: list[dict[str, Any]] = []
    at = 0
    while (start := _START.search(text, at)) is not None:
        try:
            value, at = _DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            return None
        found.append(value)
    return found[0] if len(found) == 1 else None


def read_reasoned(reply: str, key: str) -> str | None:
    """The word in a reply whose object is one of `reasoned_schema`; else None."""
    fields = read_object(reply)
    if fields is None or fields.keys() != {"reason", key}:
        return None
    return fields[key] if all(isinstance(value, str) for value in fields.values()) else None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key is given twice")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_each_once)
