"""Sentences of a reply and their hashed n-grams, the input of the first linear model.

N-grams are hashed into a fixed number of columns (Weinberger et al. 2009, 0902.2206), so that no
vocabulary is stored and training and use cannot differ. Sentences, because a model of whole replies
learns their length: trained on short refusals it takes long ones for help.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from synth.text.degenerate import visible

COLUMNS = 2**14  # half for letters, half for words
_BREAK = re.compile(r"(?<=[.!?;])[\"'”)*_]*\s+|\s*\n+\s*")
_LETTER = re.compile(r"[^\W\d_]")
_DECORATION = re.compile(r"[*_#`]+")
_TOKEN = r"[a-z']+|[0-9]|[^\sa-z0-9]"
_MOST = 24  # sentences; a reply shows within those what it does
_LONGEST = 400  # characters


def plain(text: str) -> str:
    """Lower case, straight quotes, no decoration, single spaces."""
    bare = _DECORATION.sub("", visible(text).replace("’", "'").replace("‘", "'").casefold())
    return " ".join(bare.split())


def split_sentences(text: str) -> list[str]:
    """The first 24 sentences and lines of a text that hold a letter, each in its plain form."""
    parts = (plain(part) for part in _BREAK.split(text))
    return [part for part in parts if _LETTER.search(part)][:_MOST]


def sentence_features(sentences: Sequence[str]) -> Any:
    """A scipy CSR matrix (sentences, COLUMNS) in float64; each half of a row has length 1."""
    from scipy.sparse import hstack

    # "^" and "$" are where a sentence starts and ends.
    marked = [f"^ {sentence[:_LONGEST]} $" for sentence in sentences]
    return hstack([hasher.transform(marked) for hasher in _hashers()], format="csr")


@cache
def _hashers() -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import HashingVectorizer

    half = COLUMNS // 2
    return (
        HashingVectorizer(analyzer="char_wb", ngram_range=(2, 5), n_features=half, lowercase=False),
        HashingVectorizer(
            token_pattern=_TOKEN, ngram_range=(1, 3), n_features=half, lowercase=False
        ),
    )
