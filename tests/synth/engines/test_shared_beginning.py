"""What prompts have in common is read once, and the replies are those of prompts read alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llama import make_model, make_tokenizer
from transformers import GenerationConfig

from synth.engines.shared_beginning import begin

MODEL: Any = make_model(vocab=len(make_tokenizer()))
TOKENS = st.integers(3, 20)
COMMON = st.lists(TOKENS, min_size=0, max_size=24)
ENDS = st.lists(st.lists(TOKENS, min_size=1, max_size=6), min_size=1, max_size=5)


def replies(prompts: list[list[int]], *, shares: bool) -> tuple[list[list[int]], bool]:
    begun = begin(MODEL, prompts, 0, shares=shares)
    config = GenerationConfig(max_new_tokens=6, pad_token_id=0, eos_token_id=[1])
    with torch.inference_mode():
        out = MODEL.generate(
            input_ids=begun.input_ids,
            attention_mask=begun.attention_mask,
            past_key_values=begun.cache,
            generation_config=config,
        )
    return out[:, begun.input_ids.shape[1] :].tolist(), begun.cache is not None


@settings(max_examples=40, deadline=None)
@given(COMMON, ENDS)
def test_replies_are_those_of_prompts_read_alone(common: list[int], ends: list[list[int]]) -> None:
    prompts = [[2, *common, *end] for end in ends]
    together, _ = replies(prompts, shares=True)
    apart, _ = replies(prompts, shares=False)
    assert together == apart


@pytest.mark.parametrize(
    ("prompts", "shares"),
    [
        ([[5] * 9 + [6], [5] * 9 + [7, 8]], True),
        ([[5] * 7 + [6], [5] * 7 + [7, 8]], False),  # too little to be worth a pass
        ([[5] * 9, [5] * 9], True),  # equal prompts keep a token of their own
        ([[5] * 9 + [6]], False),  # one prompt has nothing to share
    ],
)
def test_it_is_shared_where_that_pays(prompts: list[list[int]], shares: bool) -> None:
    begun = begin(MODEL, prompts, 0)
    assert (begun.cache is not None) is shares
    for row, mask, ids in zip(begun.input_ids, begun.attention_mask, prompts, strict=True):
        assert row[mask.bool()].tolist() == ids
