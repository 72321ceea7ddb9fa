"""Whether checkpoints read text the same way.

Weights that learned different meanings for one token id merge into garbage without any error
(mergekit issues 47, 139, 169, 425). Which special token ends a turn or pads is not compared: a base
and its chat tunes differ there in good faith. A folder without tokenizer files passes.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safemerge.errors import CheckpointError
from safemerge.io.files import inside, read_json

# Formats from before tokenizer.json; compared byte for byte.
_SLOW = ("tokenizer.model", "vocab.json", "merges.txt", "vocab.txt")


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """What the files of a tokenizer say."""

    tokens: dict[int, str]  # id -> token
    merges: tuple[str, ...]  # of a BPE, in order
    slow: dict[str, str]  # `{file: sha256}` of older formats; empty beside a tokenizer.json
    spelling: str  # how tokens are written, such as "bytes"


def check_tokenizers(base: Path, sources: Sequence[Path]) -> None:
    """Refuse sources whose tokenizer differs from the base's, by their folders.

    The reference is the base, or the first source with a tokenizer if the base has none.
    """
    first: Path | None = None
    reference: Tokenizer | None = None
    for other in (base, *sources):
        if first is not None and _same_file(first, other):
            continue
        tokenizer = read_tokenizer(other)
        if tokenizer is None:
            continue
        if reference is None:
            first, reference = other, tokenizer
        elif difference := _difference(reference, tokenizer):
            raise CheckpointError(
                f"the tokenizers of {first} and {other} differ: {difference}; "
                "their weights give different meanings to the same ids, use sources that share "
                "the base's tokenizer, or tokenizer = 'base' to map their rows to it"
            )


def _same_file(folder: Path, other: Path) -> bool:
    """Whether both have the same tokenizer.json, to the byte: then nothing has to be parsed."""
    ours, theirs = (inside(place, "tokenizer.json") for place in (folder, other))
    return ours.exists() and theirs.exists() and filecmp.cmp(ours, theirs, shallow=False)


def _difference(ours: Tokenizer, theirs: Tokenizer) -> str:
    """One example of what differs, or nothing."""
    if bool(ours.slow) != bool(theirs.slow):
        return (
            "only one has a tokenizer.json (save both again with "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...))"
        )
    for file in sorted(ours.slow.keys() | theirs.slow.keys()):
        if ours.slow.get(file) != theirs.slow.get(file):
            return f"{file} has other content, or is missing in one"
    for index in sorted(ours.tokens.keys() | theirs.tokens.keys()):
        a, b = ours.tokens.get(index), theirs.tokens.get(index)
        if a != b:
            names = ["nothing" if token is None else repr(token) for token in (a, b)]
            return f"id {index} is {names[0]} in the first and {names[1]} in the second"
    if ours.merges != theirs.merges:
        pairs = zip(ours.merges, theirs.merges, strict=False)
        count = min(len(ours.merges), len(theirs.merges))
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), count)
        return f"BPE merge number {at} is another"
    return ""


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a folder, or None where it has none."""
    if not (folder / "tokenizer.json").exists():
        slow = {
            name: hashlib.sha256(inside(folder, name).read_bytes()).hexdigest()
            for name in _SLOW
            if (folder / name).exists()
        }
        return Tokenizer({}, (), slow, "") if slow else None
    path = inside(folder, "tokenizer.json")
    content = read_json(path)
    try:
        model = content["model"]
        tokens = _vocabulary(model["vocab"])
        tokens |= {int(t["id"]): str(t["content"]) for t in content.get("added_tokens") or ()}
        # Written as "a b" before tokenizers 0.20 and as ["a", "b"] since.
        merges = tuple(m if isinstance(m, str) else " ".join(m) for m in model.get("merges") or ())
        spelling = _spelling(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is not a tokenizer that can be compared ({error!r}); "
            "save it again with AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        ) from error
    return Tokenizer(tokens, merges, {}, spelling)


def _spelling(content: dict[str, Any]) -> str:
    """How tokens are written, which the steps around the model tell."""
    steps = [content.get(key) for key in ("normalizer", "pre_tokenizer", "decoder")]
    text = json.dumps(steps, ensure_ascii=False)
    if '"ByteLevel"' in text:
        return "bytes"
    if "▁" in text or '"Metaspace"' in text:
        return "sentence pieces"
    return f"{content['model'].get('type')}"


def _vocabulary(vocab: Any) -> dict[int, str]:
    if isinstance(vocab, list):  # Unigram: [piece, score], the id is the position
        return {index: str(piece) for index, (piece, _) in enumerate(vocab)}
    return {int(index): str(token) for token, index in vocab.items()}
