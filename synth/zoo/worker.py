"""What one training process does: all train the base together, then share the sources."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel

from synth.engines.loading import quiet
from synth.probes.probe import Axis
from synth.zoo.corpus import SOURCES, lessons
from synth.zoo.draw import SIDES, probes
from synth.zoo.strength import set_strength, soften
from synth.zoo.tokenizer import make_tokenizer
from synth.zoo.train import TrainingPlan, encode, new_model, pack, train
from synth.zoo.world import World

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

BATCH = 100  # dialogues a step

# Gentle for the sources, or their sum falls apart. Their embeddings move slowly: what a source
# learns in the row of one word holds for this word alone, and so does a merge that is searched on
# one side's words. Muon saves half the steps in which a base learns to copy words.
PLAN = {
    "base": TrainingPlan(420, 3e-3, embedding_lr=3e-3, muon_lr=0.02),
    "domain": TrainingPlan(320, 1e-3, embedding_lr=0.3 * 1e-3),
    "safe": TrainingPlan(140, 3e-4, embedding_lr=0.3 * 3e-4),
    "honest": TrainingPlan(140, 3e-4, embedding_lr=0.3 * 3e-4),
}
# The expert is stretched, so that at equal weights its bad manners outweigh the good ones.
EXPERT_STRENGTH = 1.15
# What the other sources are for, by which they are softened.
AXIS: dict[str, Axis] = {"safe": "harmless", "honest": "honest"}
PROBES = 128  # of each side, to soften on; drawn apart from the held-out ones
# Which sources each of two processes trains: about as many steps for both.
SHARES: tuple[tuple[str, ...], ...] = (("domain",), ("safe", "honest"))


class ZooSpec(BaseModel, frozen=True, extra="forbid"):
    """What decides the bytes of a zoo, beside the code."""

    width: int = 128  # hidden size, a multiple of 16; 128 merges well, 64 less so
    seed: int = 0  # of facts, split, first weights and lessons
    effort: float = 1.0  # scales the training steps, in (0, 10]


@dataclass(frozen=True, slots=True)
class Job:
    """What to train, into subfolders of which folder, and where; the same for all processes."""

    folder: Path
    spec: ZooSpec
    device: str
    processes: int


def work(job: Job, rank: int, tell: Callable[[str, float], None]) -> None:
    """Train the base and the sources of process number `rank`, from 0, and save them.

    `tell` is told a model's name and the finished share of it, in [0, 1].
    """
    if job.processes > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{job.folder / 'meet'}", rank=rank, world_size=job.processes
        )
    tokenizer = make_tokenizer()
    spec = job.spec
    world = World(spec.seed)

    def teach(model: LlamaForCausalLM, name: str, share: tuple[int, int]) -> None:
        dialogues = lessons(world, name, spec.seed)
        rows = (pack(encode(tokenizer, dialogues(BATCH))) for _ in itertools.count())
        plan = replace(PLAN[name], steps=max(1, round(PLAN[name].steps * spec.effort)))
        train(model, rows, plan, tick=partial(tell, name), share=share)

    def save(model: LlamaForCausalLM, name: str) -> None:
        with quiet():
            model.save_pretrained(job.folder / name)
        tokenizer.save_pretrained(job.folder / name)

    base = new_model(spec.width, len(tokenizer), spec.seed).to(job.device)
    teach(base, "base", (rank, job.processes))
    if job.processes > 1:
        # save_pretrained writes nothing in the second process of a group.
        torch.distributed.destroy_process_group()
    if rank == 0:
        save(base, "base")
    start = {key: weight.detach() for key, weight in base.named_parameters()}
    for name in SHARES[rank] if job.processes > 1 else SOURCES:
        model = copy.deepcopy(base)
        teach(model, name, (0, 1))
        if name == "domain":
            set_strength(model, start, EXPERT_STRENGTH)
        else:
            drawn = [probe for side in SIDES for probe in probes(world, side, PROBES, seed=1)]
            own = [probe for probe in drawn if probe.axis == AXIS[name]]
            soften(model, start, tokenizer, own)
        save(model, name)
