"""Judged texts are data: what marks a frame is broken up in them, so that none can end its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

# Beginnings of control tokens, of all families that guards come from. An engine that holds the
# tokenizer breaks its own up too; a server gets the text as it stands.
CONTROL = (
    "<|",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "<s>",
    "</s>",
    "<start_of_turn>",
    "<end_of_turn>",
)


def inert(text: str, marks: Sequence[str] = ()) -> str:
    """`text` with every mark and control token broken by a space after its first character."""
    # A mark may stand inside the text that breaking another one up has made.
    while any(mark in text for mark in (*marks, *CONTROL)):
        for mark in (*marks, *CONTROL):
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text


def quoted(**texts: str) -> str:
    """Texts as one line of JSON that spells out no control token and parses to them exactly."""
    line: Any = json.dumps(texts)
    for mark in CONTROL:
        line = line.replace(mark, f"\\u{ord(mark[0]):04x}{mark[1:]}")
    return str(line)
