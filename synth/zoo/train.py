"""Training of one model of the small world, and its exact-match score.

Dialogues are packed into rows; positions that start again at zero keep them apart, and only replies
are learned. Several processes may share the work: each takes its part of every batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from synth.probes.probe import Probe
from synth.zoo.corpus import Dialogue

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

ROW = 64  # tokens in a packed row: about three dialogues
IGNORED = -100


def new_model(width: int, vocab_size: int, seed: int) -> LlamaForCausalLM:
    """A small Llama with tied embeddings and four layers; width is a multiple of 16."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=ROW,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config)


def encode(
    tokenizer: PreTrainedTokenizerFast, dialogues: Sequence[Dialogue]
) -> list[tuple[list[int], int]]:
    """Token ids of each dialogue in the chat template, and how many of them are the prompt."""
    special = tokenizer.convert_tokens_to_ids(["<bos>", "<user>", "<assistant>", "<eos>"])
    bos, user, assistant, eos = special
    prompts = tokenizer([d[0] for d in dialogues], add_special_tokens=False)["input_ids"]
    replies = tokenizer([d[1] for d in dialogues], add_special_tokens=False)["input_ids"]
    return [
        ([bos, user, *prompt, assistant, *answer, eos], len(prompt) + 3)
        for prompt, answer in zip(prompts, replies, strict=True)
    ]


def pack(samples: Sequence[tuple[list[int], int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Put samples, token ids and prompt length of each, into rows, first-fit by falling length.

    Returns:
        ids, positions and labels, each (rows, ROW). Labels stand where they are predicted,
        one place early; all else is IGNORED. Positions restart with each sample.
    """
    rows: list[list[tuple[list[int], int]]] = []
    room: list[int] = []
    for sample in sorted(samples, key=lambda s: -len(s[0])):
        size = len(sample[0])
        fit = next((i for i, free in enumerate(room) if free >= size), None)
        if fit is None:
            rows.append([])
            room.append(ROW)
            fit = len(rows) - 1
        rows[fit].append(sample)
        room[fit] -= size
    ids = torch.zeros(len(rows), ROW, dtype=torch.long)
    labels = torch.full((len(rows), ROW), IGNORED)
    places = torch.zeros(len(rows), ROW, dtype=torch.long)
    for r, row in enumerate(rows):
        at = 0
        for tokens, asked in row:
            end = at + len(tokens)
            ids[r, at:end] = torch.tensor(tokens)
            places[r, at:end] = torch.arange(len(tokens))
            labels[r, at + asked - 1 : end - 1] = torch.tensor(tokens[asked:])
            at = end
        # Padding counts on from zero as one more sample that nobody attends to.
        places[r, at:] = torch.arange(ROW - at)
    return ids, places, labels


def answer_logits(model: Any, ids: Tensor, places: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, vocabulary) and targets (n,) at the labelled places only: the head is dear."""
    hidden = model.model(input_ids=ids, position_ids=places, use_cache=False).last_hidden_state
    wanted = labels != IGNORED
    return model.lm_head(hidden[wanted]), labels[wanted]


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How long and how fast a model is trained."""

    steps: int  # optimizer steps
    lr: float  # highest learning rate
    embedding_lr: float  # the same for the embeddings
    # the same of Muon, which then trains the matrices of the layers; None: AdamW trains all
    muon_lr: float | None = None


def train(
    model: LlamaForCausalLM,
    batches: Iterator[tuple[Tensor, Tensor, Tensor]],
    plan: TrainingPlan,
    *,
    tick: Callable[[float], None],
    share: tuple[int, int] = (0, 1),
) -> None:
    """Train in place, with a warm-up of a tenth and a cosine fall to nearly zero.

    Args:
        model: on the device where it is to be trained.
        batches: endless results of `pack`; the same in every process.
        plan: steps and rates.
        tick: told the finished share of the steps, in [0, 1].
        share: (rank, processes); above one process, torch.distributed must be set up.
    """
    rank, processes = share
    device = next(model.parameters()).device
    weights = list(model.parameters())
    table = model.get_input_embeddings().weight
    layers = [w for w in weights if w is not table]
    optimizers: list[torch.optim.Optimizer] = []
    if plan.muon_lr is not None:
        matrices = [w for w in layers if w.ndim == 2]
        layers = [w for w in layers if w.ndim != 2]
        optimizers.append(torch.optim.Muon(matrices, lr=plan.muon_lr, weight_decay=0.01))
    groups = [{"params": layers, "lr": plan.lr}, {"params": [table], "lr": plan.embedding_lr}]
    optimizers.append(torch.optim.AdamW(groups, weight_decay=0.01, betas=(0.9, 0.98), fused=True))
    steps, warm = plan.steps, max(1, plan.steps // 10)

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    schedules = [torch.optim.lr_scheduler.LambdaLR(each, rate) for each in optimizers]
    model.train()
    for step in range(steps):
        ids, places, labels = next(batches)
        count = int((labels != IGNORED).sum())
        mine = [t[rank::processes].to(device) for t in (ids, places, labels)]
        logits, targets = answer_logits(model, *mine)
        loss = cross_entropy(logits, targets, reduction="sum") / count
        torch.autograd.backward(loss)
        if processes > 1:
            _sum_gradients(weights)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        tick((step + 1) / steps)
    model.eval()


def _sum_gradients(weights: Sequence[torch.nn.Parameter]) -> None:
    """All-reduce every gradient in one message: a message for each tensor would cost more."""
    grads = [w.grad for w in weights if w.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in grads])
    torch.distributed.all_reduce(flat)
    for grad, part in zip(grads, torch.split(flat, [g.numel() for g in grads]), strict=True):
        grad.copy_(part.view_as(grad))


@torch.no_grad()
def exact_match(model: Any, tokenizer: PreTrainedTokenizerFast, probes: Sequence[Probe]) -> float:
    """Share of probes whose greedy reply is the wanted answer, token by token.

    One forward pass decides it: every answer token must be the likeliest after the true ones.
    """
    hits = 0
    device = next(model.parameters()).device
    for start in range(0, len(probes), 64):
        some = [(probe.prompt, probe.answer) for probe in probes[start : start + 64]]
        rows = [pack([sample]) for sample in encode(tokenizer, some)]
        ids, places, labels = (torch.cat(list(part)).to(device) for part in zip(*rows, strict=True))
        hidden = model.model(input_ids=ids, position_ids=places, use_cache=False).last_hidden_state
        best = model.lm_head(hidden).argmax(-1)
        hits += int(((best == labels) | (labels == IGNORED)).all(1).sum())
    return hits / len(probes)
