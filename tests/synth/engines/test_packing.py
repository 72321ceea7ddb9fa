"""Packed rows say what rows apart say, and are used where that holds alone."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llama import WORDS, make_model, make_tokenizer

from synth.engines.batches import Batch, answer_logprobs, encode
from synth.engines.packing import pack
from synth.engines.packing_check import packable_tokens
from synth.engines.template import open_template
from synth.engines.transformers import TransformersEngine

TOKENIZER = make_tokenizer()
TEMPLATE = open_template(TOKENIZER)
MODEL = make_model(vocab=len(TOKENIZER))
TEXTS = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12)
SOME = [
    ("how do i take the red lamp ?", "take the lamp from a shelf ."),
    ("how do i take the red lamp ?", "sorry i cannot help"),
    ("how do i take the red lamp ?", "sorry i cannot help"),
    ("how ?", "do not know ."),
    ("the blue shelf from the red lamp please", "sorry"),
    ("lamp", "lamp lamp"),
]
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
EIGHT = {"head_dim": 8}
# name of the configuration: (changes of it, longest row that such a model is given)
ARCHITECTURES: dict[str, tuple[dict[str, Any], int]] = {
    "Llama": ({}, 512),
    "Qwen2": ({"max_window_layers": 1}, 512),
    "Qwen3": (EIGHT, 512),
    "Gemma2": ({**EIGHT, "sliding_window": 300, "final_logit_softcapping": 5.0}, 300),
    "Mistral": ({"sliding_window": 24}, 0),
    "GPTNeoX": ({}, 512),
    "GPT2": ({"max_position_embeddings": 300}, 300),
    "Granite": ({"logits_scaling": 3.0}, 512),
    "Bloom": ({}, 0),
    "Mamba": ({}, 0),
}


def architecture(name: str, seed: int = 0) -> Any:
    import transformers

    changes = ARCHITECTURES[name][0]
    torch.manual_seed(seed)
    config = getattr(transformers, f"{name}Config")(**{**SHAPE, **changes})
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def logprobs(model: Any, batches: tuple[Batch, ...]) -> torch.Tensor:
    """(N,) in the caller's order."""
    found = torch.cat([answer_logprobs(b.answer_logits(model), b)[0] for b in batches])
    return found[torch.cat([batch.rows for batch in batches]).argsort()]


def packed(pairs: list[tuple[str, str]], row_tokens: int, answers: int = 10**9) -> Any:
    return pack(TEMPLATE.tokenize(pairs), range(len(pairs)), row_tokens, answers)


@settings(max_examples=25, deadline=None)
@given(pairs=PAIRS, row_tokens=st.integers(1, 120), answers=st.integers(1, 60))
def test_a_row_says_what_rows_apart_say(
    pairs: list[tuple[str, str]], row_tokens: int, answers: int
) -> None:
    batches = packed(pairs, row_tokens, answers)
    for batch in batches:
        assert len(batch.rows) == 1 or batch.input_ids.numel() <= row_tokens
        assert len(batch.rows) == 1 or len(batch.targets) <= answers
    with torch.no_grad():
        found = logprobs(MODEL, batches)
        wanted = logprobs(MODEL, encode(TEMPLATE, pairs, batch_tokens=1))
    assert torch.allclose(found, wanted, atol=1e-3)


def test_what_conversations_begin_with_is_read_once() -> None:
    (row,) = packed(SOME, 10**6)
    read = {
        tuple([*prompt, *answer][:end])
        for prompt, answer in TEMPLATE.tokenize(SOME)
        for end in range(1, len(prompt) + len(answer))
    }
    assert row.input_ids.numel() == len(read)


def test_the_gradient_is_that_of_rows_apart() -> None:
    model = make_model(vocab=len(TOKENIZER))
    gradients = []
    for batches in (packed(SOME, 10**6), encode(TEMPLATE, SOME, batch_tokens=1)):
        loss = logprobs(model, batches).sum()
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_architecture_scores_as_in_rows_apart(name: str, attention: str) -> None:
    model = architecture(name)
    if attention == "eager":
        model.set_attn_implementation("eager")
    engine = TransformersEngine(model, tokenizer=TOKENIZER)
    assert packable_tokens(engine.model, TEMPLATE, 512) == ARCHITECTURES[name][1]
    with torch.no_grad():
        wanted = logprobs(model, encode(TEMPLATE, SOME, batch_tokens=1))
    assert torch.allclose(engine.score(engine.encode(SOME)).logprob, wanted, atol=2e-3)


def test_half_precision_is_packed_too() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        assert packable_tokens(architecture("Llama").to(dtype), TEMPLATE, 400) == 400


def test_a_longer_pair_than_a_row_stands_alone() -> None:
    model = architecture("Gemma2")
    engine = TransformersEngine(model, tokenizer=TOKENIZER)
    pairs = [*SOME, ("how do i " * 60, "take the lamp " * 50)]
    assert [batch.tree for batch in engine.encode(pairs)] == [True, False]
    with torch.no_grad():
        wanted = logprobs(model, encode(TEMPLATE, pairs, batch_tokens=1))
    assert torch.allclose(engine.score(engine.encode(pairs)).logprob, wanted, atol=5e-3)


def test_rows_too_short_to_share_are_not_packed() -> None:
    assert packable_tokens(architecture("Llama"), TEMPLATE, 255) == 0
    assert packable_tokens(make_model(), TEMPLATE, 512) == 0  # its context holds 128


def test_a_model_that_says_nothing_finite_is_not_packed() -> None:
    model = architecture("Llama")
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    assert packable_tokens(model, TEMPLATE, 512) == 0


def test_nothing_is_left_of_earlier_weights() -> None:
    engine = TransformersEngine(architecture("Llama"), tokenizer=TOKENIZER)
    batches = engine.encode(SOME)
    assert all(batch.tree for batch in batches)
    before = engine.score(batches).logprob
    other = architecture("Llama", seed=1)
    engine.load_weights(dict(other.named_parameters()))
    fresh = TransformersEngine(other, tokenizer=TOKENIZER)
    after = engine.score(batches).logprob
    assert torch.equal(after, fresh.score(fresh.encode(SOME)).logprob)
    assert not torch.allclose(before, after, atol=0.1)


def test_the_order_of_pairs_changes_nothing() -> None:
    engine = TransformersEngine(architecture("Llama"), tokenizer=TOKENIZER)
    turned = random.Random(0).sample(range(len(SOME)), len(SOME))
    found = engine.score(engine.encode([SOME[i] for i in turned]))
    again = engine.score(engine.encode(SOME))
    assert torch.equal(found.logprob, again.logprob[turned])
    assert torch.equal(found.tokens, again.tokens[turned])
    assert torch.equal(found.greedy, again.greedy[turned])
