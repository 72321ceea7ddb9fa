"""Rows of embeddings and heads, mapped by token from a source's tokenizer to the base's.

What is matched is the token's text, as tokenizer.json writes it. A source of another spelling
(`Ġhouse` for `▁house`) is refused: what matched would match by accident.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from safemerge.errors import CheckpointError
from safemerge.io.tokens import Tokenizer, read_tokenizer


@dataclass(frozen=True, slots=True)
class TokenMap:
    """Ids of the same tokens in two tokenizers."""

    base_ids: Tensor  # (n,) int64
    source_ids: Tensor  # (n,) int64, of the same tokens in the source
    identical: bool  # every id means the same token in both

    def to_base(self, values: Tensor, rest: Tensor) -> Tensor:
        """A source's rows (source rows, ...) in the order of the base.

        `rest` (base rows, ...), of the same dtype and device, has the rows of tokens that the
        source lacks and of ids without a token.
        """
        if self.identical and values.shape == rest.shape:
            return values
        # Tables may be longer than their tokenizer (padding) and, in a few models, shorter.
        known = (self.base_ids < len(rest)) & (self.source_ids < len(values))
        mapped = rest.clone()
        rows = values[self.source_ids[known].to(values.device)]
        mapped[self.base_ids[known].to(rest.device)] = rows
        return mapped


def token_map(base: Path, source: Path) -> TokenMap | None:
    """How the vocabulary of one folder maps to another's; None where `source` has no tokenizer."""
    theirs = read_tokenizer(source)
    if theirs is None:
        return None
    ours = read_tokenizer(base)
    for folder, tokenizer in ((base, ours), (source, theirs)):
        if tokenizer is None or tokenizer.slow:
            raise CheckpointError(
                f"{folder} has no tokenizer.json, by which tokenizer = 'base' maps tokens; save it "
                "with AutoTokenizer.from_pretrained(...).save_pretrained(...)"
            )
    assert ours is not None
    if ours.spelling != theirs.spelling:
        raise CheckpointError(
            f"tokenizer = 'base' cannot map {source} to {base}: their tokens are written "
            f"differently (as {theirs.spelling} there, {ours.spelling} in the base); use sources "
            "with the base's kind of tokenizer"
        )
    ids = _ids_of(theirs, source)
    pairs = [(id_, ids[token]) for id_, token in sorted(ours.tokens.items()) if token in ids]
    if not pairs:
        raise CheckpointError(
            f"tokenizer = 'base' cannot map {source} to {base}: they share no token; use sources "
            "with the base's kind of tokenizer"
        )
    base_ids, source_ids = torch.tensor(pairs).unbind(1)
    return TokenMap(base_ids, source_ids, identical=ours.tokens == theirs.tokens)


def _ids_of(tokenizer: Tokenizer, folder: Path) -> dict[str, int]:
    ids: dict[str, int] = {}
    for id_, token in tokenizer.tokens.items():
        if token in ids:
            raise CheckpointError(
                f"the token {token!r} has the ids {ids[token]} and {id_} in the tokenizer of "
                f"{folder}, so it cannot be mapped to the base's; correct its tokenizer.json"
            )
        ids[token] = id_
    return ids
