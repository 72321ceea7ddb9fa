"""The terms of the loss against their formulas in plain loops, and what must not change them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from safemerge.fusion.answer_loss import answer_loss
from safemerge.fusion.drift_loss import drift_loss
from safemerge.fusion.examples import IGNORED, Example, collate
from safemerge.fusion.gating_loss import gating_loss
from safemerge.fusion.norm_loss import norm_loss


def drawn(seed: int, rows: int, kept: int = 4) -> tuple[list[Tensor], Tensor, Tensor]:
    """Router logits of two layers and three experts, answered columns, experts; -100 among them."""
    torch.manual_seed(seed)
    layers = [3 * torch.randn(rows, kept, 3) for _ in range(2)]
    lengths = torch.randint(1, kept + 1, (rows, 1))
    answered = torch.arange(kept).expand(rows, kept) >= kept - lengths
    experts = torch.randint(-1, 3, (rows,))
    return layers, answered, torch.where(experts < 0, IGNORED, experts)


def in_loops(layers: list[Tensor], answered: Tensor, experts: Tensor) -> float:
    examples = []
    for row, expert in enumerate(experts.tolist()):
        if expert >= 0:
            terms = [
                -math.log(layer[row, column].softmax(-1)[expert].item())
                for layer in layers
                for column in range(layer.shape[1])
                if answered[row, column]
            ]
            examples.append(sum(terms) / len(terms))
    return sum(examples) / len(examples) if examples else 0.0


@given(seed=st.integers(0, 999), rows=st.integers(1, 6))
def test_the_gating_loss_is_its_formula(seed: int, rows: int) -> None:
    inputs = drawn(seed, rows)
    assert gating_loss(*inputs).item() == pytest.approx(in_loops(*inputs), rel=1e-4, abs=1e-6)


@given(seed=st.integers(0, 99))
def test_each_example_keeps_its_own_label(seed: int) -> None:
    """However sources are shuffled and interleaved in batches, the labels go with the examples."""
    examples = [Example((3, 4), (5,) * (1 + n % 3), n % 3) for n in range(9)]
    order = torch.randperm(9, generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [examples[n] for n in order]
    for start in range(0, 9, 4):
        labels = collate(shuffled[start : start + 4], pad=0)["labels"]
        assert isinstance(labels, Tensor)
        assert labels[:, 0].tolist() == [n % 3 for n in order[start : start + 4]]
        lengths = (labels[:, 1:] != IGNORED).sum(dim=1).tolist()
        assert lengths == [1 + n % 3 for n in order[start : start + 4]]


def test_the_gating_loss_does_not_see_padding() -> None:
    layers, answered, experts = drawn(0, 4)
    experts = experts.clamp(min=0)
    changed = [torch.where(answered[..., None], layer, 100 * torch.randn(3)) for layer in layers]
    assert torch.equal(
        gating_loss(layers, answered, experts), gating_loss(changed, answered, experts)
    )


def test_the_gating_loss_of_no_labels_is_zero() -> None:
    layers, answered, _ = drawn(0, 4)
    assert gating_loss(layers, answered, torch.full((4,), IGNORED)).item() == 0.0


def test_the_gating_loss_has_one_softmax() -> None:
    """Of a router that is sure it goes to 0; through a second softmax it could not."""
    layers = [torch.tensor([[[30.0, 0.0, 0.0]]])]
    loss = gating_loss(layers, torch.ones(1, 1, dtype=torch.bool), torch.tensor([0]))
    assert loss.item() < 1e-9


def test_the_answer_loss_is_of_answers_alone() -> None:
    logits = torch.randn(2, 3, 7)
    targets = torch.tensor([[IGNORED, 4, 2], [IGNORED, IGNORED, 6]])
    rows = [(0, 1, 4), (0, 2, 2), (1, 2, 6)]
    wanted = -sum(logits[r, c].log_softmax(-1)[t].item() for r, c, t in rows) / 3
    assert answer_loss(logits, targets).item() == pytest.approx(wanted, rel=1e-5)


def test_drift_is_zero_at_the_start_and_grows() -> None:
    starts = [torch.randn(3, 4, 5), torch.randn(3, 5, 2)]
    assert drift_loss(starts, starts, (1.0, 1.0, 1.0)).item() == 0.0
    before = 0.0
    for step in (0.1, 0.2, 0.3):
        moved = [start + step for start in starts]
        now = drift_loss(moved, starts, (1.0, 0.0, 0.5)).item()
        # 30 entries an expert, each moved by `step`
        assert now == pytest.approx(1.5 * 30 * step**2, rel=1e-4)
        assert now > before
        before = now


def test_gamma_is_of_one_expert() -> None:
    starts = [torch.zeros(2, 3, 3)]
    moved = [starts[0].clone()]
    moved[0][1] += 1.0
    assert drift_loss(moved, starts, (5.0, 0.0)).item() == 0.0
    assert drift_loss(moved, starts, (0.0, 2.0)).item() == pytest.approx(18.0)


def test_the_norm_form_is_that_of_the_released_code() -> None:
    """Over gate, up and down of every expert and layer, divided by the layers."""
    torch.manual_seed(0)
    layers = [(torch.randn(2, 8, 3), torch.randn(2, 3, 4)) for _ in range(2)]
    gammas = (0.5, 2.0)
    wanted = 0.0
    for pair, down in layers:
        for expert, gamma in enumerate(gammas):
            for matrix in (pair[expert, :4], pair[expert, 4:], down[expert]):
                wanted += gamma * math.sqrt(matrix.square().sum().item()) / 2
    experts = [matrix for layer in layers for matrix in layer]
    assert norm_loss(experts, 2, gammas).item() == pytest.approx(wanted, rel=1e-5)


def test_a_batch_predicts_the_answers() -> None:
    batch = collate([Example((5, 6, 7), (8, 2)), Example((9,), (3, 4, 2), 1)], pad=1)
    assert {k: v.tolist() if isinstance(v, Tensor) else v for k, v in batch.items()} == {
        "input_ids": [[5, 6, 7, 8], [1, 9, 3, 4]],
        "attention_mask": [[1, 1, 1, 1], [0, 1, 1, 1]],
        "position_ids": [[0, 1, 2, 3], [0, 0, 1, 2]],
        "logits_to_keep": 3,
        "labels": [[IGNORED, IGNORED, 8, 2], [1, 3, 4, 2]],
    }
