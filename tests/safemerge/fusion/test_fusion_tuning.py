"""Training of mixtures: what moves, what stays, how it stops and goes on, and where tokens go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_mixture import tiny_examples, tiny_mixture

from safemerge.errors import CheckpointError, RecipeError
from safemerge.fusion.alignment import tune_feed_forward
from safemerge.fusion.examples import Example
from safemerge.fusion.mixture import experts_of, routers_of
from safemerge.fusion.routing import gating_accuracy, routes, without_expert
from safemerge.fusion.training import Schedule, TrainingFailed
from safemerge.fusion.tuning import FusionLoss, tune_mixture

SCHEDULE = Schedule(steps=6, batch=4, lr=1e-3, save_steps=2)
WEIGHTS = FusionLoss(gating=0.1, gammas=(0.1, 0.1, 0.1))


class Stopped(Exception):
    """In place of a kill."""


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_what_is_frozen_stays_to_the_bit(tmp_path: Path, kind: str) -> None:
    model = tiny_mixture(tmp_path, kind)
    before = state(model)
    history = tune_mixture(model, tiny_examples(9), WEIGHTS, SCHEDULE, tmp_path / "run")
    learned = {"gate.weight", "experts.gate_up_proj", "experts.down_proj"}
    for name, tensor in model.state_dict().items():
        moves = ".mlp." in name and name.rpartition(".mlp.")[2] in learned
        assert torch.equal(tensor, before[name]) != moves, name
    assert len(history) == SCHEDULE.steps
    first, last = history[0], history[-1]
    assert first["regulariser"] == 0.0 < last["regulariser"]
    for row in history:
        assert row["loss"] == pytest.approx(row["lm"] + row["gate"] + row["regulariser"], rel=1e-4)


def test_a_stopped_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    examples = tiny_examples(10)
    whole = tiny_mixture(tmp_path)
    wanted = tune_mixture(whole, examples, WEIGHTS, SCHEDULE, tmp_path / "whole")

    def stop(done: int, steps: int, loss: float) -> None:
        if done == 5:
            raise Stopped

    with pytest.raises(Stopped):
        tune_mixture(
            tiny_mixture(tmp_path), examples, WEIGHTS, SCHEDULE, tmp_path / "run", progress=stop
        )
    again = tiny_mixture(tmp_path)
    begun: list[int] = []
    history = tune_mixture(
        *(again, examples, WEIGHTS, SCHEDULE, tmp_path / "run"),
        progress=lambda done, steps, loss: begun.append(done),
    )
    assert begun == [5, 6]
    assert history[-1]["loss"] == pytest.approx(wanted[-1]["loss"], abs=1e-4)
    for name, tensor in again.state_dict().items():
        torch.testing.assert_close(tensor, whole.state_dict()[name], atol=1e-5, rtol=0)


def test_a_loss_that_is_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    model = tiny_mixture(tmp_path)

    def spoil(done: int, steps: int, loss: float) -> None:
        if done == 3:
            model.get_input_embeddings().weight.data.fill_(torch.nan)

    with pytest.raises(TrainingFailed, match=r"step 4 of 6: .*checkpoint-2\. Take a lower"):
        tune_mixture(model, tiny_examples(8), WEIGHTS, SCHEDULE, tmp_path / "run", progress=spoil)
    kept = type(model).from_pretrained(tmp_path / "run" / "checkpoint-2")
    assert all(parameter.isfinite().all() for parameter in kept.parameters())
    assert not (tmp_path / "run" / "checkpoint-4").exists()


def test_recomputed_activations_change_nothing(tmp_path: Path) -> None:
    """The gating loss too, whose logits are caught on the way."""
    losses = [
        tune_mixture(
            tiny_mixture(tmp_path),
            tiny_examples(8),
            FusionLoss(gating=1.0),
            replace(SCHEDULE, recompute=recompute),
            tmp_path / f"run {recompute}",
        )
        for recompute in (False, True)
    ]
    for plain, recomputed in zip(*losses, strict=True):
        assert plain["loss"] == pytest.approx(recomputed["loss"], rel=1e-5)
        assert plain["grad_norm"] == pytest.approx(recomputed["grad_norm"], rel=1e-4)


def test_mixed_precision_follows_float32(tmp_path: Path) -> None:
    exact, mixed = (
        tune_mixture(
            tiny_mixture(tmp_path),
            tiny_examples(8),
            WEIGHTS,
            replace(SCHEDULE, precision=precision),
            tmp_path / precision,
        )
        for precision in ("float32", "bfloat16")
    )
    assert mixed[-1]["loss"] == pytest.approx(exact[-1]["loss"], rel=0.02)
    assert mixed[-1]["loss"] != exact[-1]["loss"]


def test_the_gating_loss_teaches_the_router(tmp_path: Path) -> None:
    examples, heldout = tiny_examples(24), tiny_examples(12, seed=1)
    schedule = Schedule(steps=60, batch=8, lr=2e-2, save_steps=100)
    accuracies = {}
    for gating in (0.0, 1.0):
        model = tiny_mixture(tmp_path)
        folder = tmp_path / f"run {gating}"
        tune_mixture(model, examples, FusionLoss(gating=gating), schedule, folder)
        accuracies[gating] = gating_accuracy(routes(model, heldout), heldout)
    assert accuracies[0.0] is not None
    assert accuracies[1.0] is not None
    assert accuracies[0.0] < 0.7 < 0.9 < accuracies[1.0]


def test_a_router_can_stay_as_it_was_drawn(tmp_path: Path) -> None:
    model = tiny_mixture(tmp_path)
    before = [router.clone() for router in routers_of(model)]
    tune_mixture(
        *(model, tiny_examples(6), WEIGHTS, replace(SCHEDULE, steps=2), tmp_path / "run"),
        frozen_router=True,
    )
    assert all(map(torch.equal, before, routers_of(model)))


def test_routes_are_shares(tmp_path: Path) -> None:
    """Of two places that a token has, no expert gets more than one; batches change nothing."""
    model, examples = tiny_mixture(tmp_path), tiny_examples(5)
    found = routes(model, examples, batch=2)
    assert found.gates.shape == found.shares.shape == (5, 2, 3)
    torch.testing.assert_close(found.gates.sum(-1), torch.ones(5, 2))
    torch.testing.assert_close(found.shares.sum(-1), torch.ones(5, 2))
    assert found.shares.max() <= 0.5
    alone = routes(model, examples[3:4])
    torch.testing.assert_close(found.gates[3], alone.gates[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_an_expert_that_is_off_adds_nothing(tmp_path: Path, top_k: int) -> None:
    """Whatever its weights are; and outside the block it is back."""
    model = tiny_mixture(tmp_path, top_k=top_k)
    examples, tokens = tiny_examples(4), torch.arange(3, 15).reshape(2, 6)
    with torch.no_grad():
        before = model(tokens).logits
        with without_expert(model, 1):
            off = model(tokens).logits
            assert (routes(model, examples).gates[..., 1] == 0).all()
        assert torch.equal(model(tokens).logits, before)
        for parameter in experts_of(model):
            parameter.data[1] += 1.0
        with without_expert(model, 1):
            torch.testing.assert_close(model(tokens).logits, off)
        assert not torch.allclose(model(tokens).logits, before)


def test_alignment_trains_feed_forward_blocks_alone(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    tiny_mixture(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "llama-0")
    before = state(model)
    schedule = replace(SCHEDULE, lr=1e-2, steps=20, batch=8, save_steps=20)
    history = tune_feed_forward(model, tiny_examples(8), schedule, tmp_path / "run")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == (".mlp." not in name), name
    assert history[-1]["loss"] < history[0]["loss"] - 0.1
    with pytest.raises(CheckpointError, match="no mixture architecture for 'mixtral'"):
        tune_feed_forward(tiny_mixture(tmp_path), tiny_examples(2), SCHEDULE, tmp_path / "no")


def test_refusals(tmp_path: Path) -> None:
    model = tiny_mixture(tmp_path)
    with pytest.raises(RecipeError, match="an example is of expert 3; the mixture has 0 to 2"):
        tune_mixture(model, [Example((3,), (4,), 3)], WEIGHTS, SCHEDULE, tmp_path / "run")
    with pytest.raises(RecipeError, match="there are 2 gammas for 3 experts"):
        tune_mixture(
            model, tiny_examples(2), FusionLoss(gammas=(1.0, 1.0)), SCHEDULE, tmp_path / "run"
        )
