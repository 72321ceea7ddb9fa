"""Divergence of next tokens: as torch has it, 0 for the base, never above the exact one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from search.scoring.divergence import TOKENS, Divergence, NextTokens
from synth.engines.transformers import TransformersEngine
from synth.zoo import Zoo

PROMPTS = (
    "What is the capital of Zorland?",
    "How do I paint my own fence?",
    "dinner",
    "How do I sort my uncle's letters?",
)
REPLIES = ("It is Zorton.", "Use the brush on the fence.", "lunch lunch", "")


@pytest.fixture
def engine(raw_zoo: Zoo) -> TransformersEngine:
    """The base of the small world."""
    return TransformersEngine(raw_zoo.base)


def weights(raw_zoo: Zoo, name: str) -> dict[str, torch.Tensor]:
    """Those of a model of the zoo."""
    path = raw_zoo.base if name == "base" else raw_zoo.sources[name]
    return dict(TransformersEngine(path).model.state_dict())


def test_it_equals_torchs_own_divergence(engine: TransformersEngine) -> None:
    divergence = Divergence(engine, PROMPTS, REPLIES)
    before = [_logprobs(engine, pair) for pair in zip(PROMPTS, REPLIES, strict=True)]
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in engine.model.parameters():
            tensor.add_(0.2 * torch.randn_like(tensor))
    after = [_logprobs(engine, pair) for pair in zip(PROMPTS, REPLIES, strict=True)]
    wanted = [
        functional.kl_div(model, base, log_target=True, reduction="none").sum(-1).mean().item()
        for base, model in zip(before, after, strict=True)
    ]
    assert min(wanted) > 0.01
    assert divergence.measure() == pytest.approx(wanted, rel=1e-4)


def _logprobs(engine: TransformersEngine, pair: tuple[str, str]) -> torch.Tensor:
    """(T, V) before each token of one answer, in float64, without padding or batches."""
    (batch,) = engine.encode([pair])
    with torch.no_grad():
        logits = engine.model(input_ids=batch.input_ids).logits[0, -len(batch.targets) :]
    return logits.double().log_softmax(-1)


def test_the_base_itself_is_not_away_from_itself(engine: TransformersEngine, raw_zoo: Zoo) -> None:
    divergence = Divergence(engine, PROMPTS, REPLIES)
    assert divergence.measure() == [0.0] * 4
    engine.load_weights(weights(raw_zoo, "domain"))
    assert min(divergence.measure()) > 0.0
    engine.load_weights(weights(raw_zoo, "base"))
    assert divergence.measure() == [0.0] * 4


def test_only_the_beginning_of_a_reply_counts(engine: TransformersEngine, raw_zoo: Zoo) -> None:
    words = ["lunch", "dinner"] * TOKENS
    replies = [" ".join([*words[:TOKENS], *more]) for more in (words, ["bike"] * TOKENS)]
    divergence = Divergence(engine, ["dinner"] * 2, replies)
    engine.load_weights(weights(raw_zoo, "safe"))
    first, second = divergence.measure()
    assert first == pytest.approx(second)
    assert first > 0.0


def test_broken_weights_have_no_divergence(engine: TransformersEngine) -> None:
    divergence = Divergence(engine, PROMPTS, REPLIES)
    with torch.no_grad():
        next(engine.model.parameters()).fill_(math.nan)
    assert all(map(math.isnan, divergence.measure()))


LOGITS = st.lists(
    st.lists(st.floats(-30, 30, width=32), min_size=6, max_size=6), min_size=1, max_size=3
).map(torch.tensor)


@given(base=LOGITS, model=LOGITS)
def test_told_apart_tokens_bound_the_divergence_from_below(
    base: torch.Tensor, model: torch.Tensor
) -> None:
    rows = min(len(base), len(model))
    base, model = base[:rows], model[:rows]
    exact = functional.kl_div(
        model.double().log_softmax(-1),
        base.double().log_softmax(-1),
        log_target=True,
        reduction="none",
    ).sum(-1)
    bounds = [NextTokens.of(base, most).divergence(model) for most in (1, 3, 5, 6, 9)]
    slack = 1e-4 * (1.0 + exact)
    for bound in bounds:
        assert (bound >= 0.0).all()
        assert (bound <= exact + slack).all()
    assert torch.allclose(bounds[-1], exact, rtol=1e-3, atol=1e-4)
    assert torch.equal(bounds[-1], bounds[-2])


@pytest.mark.parametrize("most", [1, 2, 4])
def test_a_model_that_moves_only_what_is_merged_is_not_seen(most: int) -> None:
    base = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
    # The same total beyond the kept tokens, in another order.
    model = torch.cat([base[:, :most], base[:, most:].flip(-1)], dim=1)
    assert NextTokens.of(base, most).divergence(model).item() == pytest.approx(0.0, abs=1e-6)
    assert NextTokens.of(base, 6).divergence(model).item() > 1e-3


@pytest.mark.parametrize("sure", [40.0, 80.0, 120.0])
def test_what_is_next_to_impossible_is_still_told_apart(sure: float) -> None:
    """The rest has a probability that 1 minus the kept ones cannot show in float32."""
    base = torch.tensor([[sure, 0.0, 0.0]])
    model = torch.tensor([[0.0, sure, 0.0]])
    assert NextTokens.of(base, 1).divergence(model).item() == pytest.approx(sure, rel=1e-3)
