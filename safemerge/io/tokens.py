"""Whether checkpoints read text the same way.

Weights that learned different meanings for one token id merge into garbage without any error
(mergekit issues 47, 139, 169, 425). Which special token ends a turn or pads is not compared: a base
and its chat tunes differ there in good faith. A folder without tokenizer files passes.

Files are read as transformers' loader reads them: tokenizer.json decides where there is one; tokens
that are added to it, or to an older format, are those of tokenizer_config.json, else those of
added_tokens.json (llama.cpp issue 7271: two tunes whose chat tokens have each other's ids).
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

    tokens: dict[int, str]  # id -> token; of older formats only those that were added
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
        if first is not None and _same_files(first, other):
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


def _same_files(folder: Path, other: Path) -> bool:
    """Whether both have the same tokenizer.json, to the byte, and add the same tokens to it."""
    ours, theirs = (inside(place, "tokenizer.json") for place in (folder, other))
    same = ours.exists() and theirs.exists() and filecmp.cmp(ours, theirs, shallow=False)
    return same and _added(folder) == _added(other)


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
    if ours.slow:
        return _other_added(ours.tokens, theirs.tokens)
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


def _other_added(ours: dict[int, str], theirs: dict[int, str]) -> str:
    """One id, or one added token, that two folders give different meanings, or nothing.

    What only one of them names may be in the other's vocabulary, which is not read here.
    """
    for index in sorted(ours.keys() & theirs.keys()):
        if ours[index] != theirs[index]:
            return f"id {index} is {ours[index]!r} in the first and {theirs[index]!r} in the second"
    ids = {token: index for index, token in theirs.items()}
    for index, token in sorted(ours.items()):
        if ids.get(token, index) != index:
            return f"the token {token!r} has id {index} in the first and {ids[token]} in the second"
    return ""


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a folder, or None where it has none."""
    if not (folder / "tokenizer.json").exists():
        slow = {
            name: hashlib.sha256(inside(folder, name).read_bytes()).hexdigest()
            for name in _SLOW
            if (folder / name).exists()
        }
        return Tokenizer(_added(folder), (), slow, "") if slow else None
    path = inside(folder, "tokenizer.json")
    content = read_json(path)
    try:
        model = content["model"]
        tokens = _vocabulary(model["vocab"])
        tokens |= {int(t["id"]): str(t["content"]) for t in content.get("added_tokens") or ()}
        # Written as "a b" before tokenizers 0.20 and as ["a", "b"] since.
        merges = tuple(m if isinstance(m, str) else " ".join(m) for m in model.get("merges") or ())
        spelling = _spelling(content)
        known = set(tokens.values())
        for index, token in _added(folder).items():
            if token not in known:
                tokens.setdefault(index, token)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is not a tokenizer that can be compared ({error!r}); "
            "save it again with AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        ) from error
    return Tokenizer(tokens, merges, {}, spelling)


def _added(folder: Path) -> dict[int, str]:
    """Tokens that are added to those of the vocabulary's own file: `{id: token}`."""
    try:
        config = inside(folder, path := "tokenizer_config.json")
        named = read_json(config).get("added_tokens_decoder") if config.exists() else None
        if named is not None:
            return {
                int(index): str(token["content"] if isinstance(token, dict) else token)
                for index, token in named.items()
            }
        legacy = inside(folder, path := "added_tokens.json")
        added = read_json(legacy) if legacy.exists() else {}
        return {int(index): str(token) for token, index in added.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / path} does not name its added tokens in a way that can be compared "
            f"({error!r}); save the tokenizer again with "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        ) from error


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
