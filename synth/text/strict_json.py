"""A model's reply as one JSON object, read strictly."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any


def read_object(text: str, keys: Collection[str]) -> dict[str, Any] | None:
    """The object in a text that holds nothing else; None unless its keys are `keys`, each once."""
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    # A list of pairs shows a key that was given twice, which a dict would hide.
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        return None
    fields = dict(pairs)
    return fields if len(pairs) == len(keys) and fields.keys() == {*keys} else None
