"""An expert is trained as a PEFT adapter that the project's own merge reads."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

import torch
from tiny_llama import make_model, make_tokenizer

from safemerge import ModelRef, Recipe, merge
from synth.engines.transformers import TransformersEngine
from synth.real.lora import train_lora
from synth.real.own_replies import Lesson
from synth.real.tuning import TuningPlan

LESSONS = [Lesson("how do i take the red lamp ?", "sorry i cannot help"), Lesson("how ?", "please")]


def test_an_expert_says_what_it_was_taught_once_its_adapter_is_merged(tmp_path: Path) -> None:
    base = tmp_path / "base"
    make_model().save_pretrained(base)
    make_tokenizer().save_pretrained(base)
    plan = TuningPlan(steps=40, batch=2, lr=2e-2)
    told: list[tuple[int, int, float]] = []
    train_lora(
        base,
        list(islice(cycle(LESSONS), 80)),
        plan,
        tmp_path / "adapter",
        lambda *step: told.append(step),
    )
    assert [step[:2] for step in told] == [(n, 40) for n in range(1, 41)]
    assert told[-1][2] < 0.1 < told[0][2]
    recipe = Recipe(
        base=ModelRef(name="base", path=str(base)),
        sources=(ModelRef(name="expert", path=str(tmp_path / "adapter")),),
        method="linear",
        weights={"default": {"expert": 1.0}},
    )
    merge(recipe, tmp_path / "merged")
    engine = TransformersEngine(tmp_path / "merged", dtype=torch.float32)
    replies = engine.chat([lesson.prompt for lesson in LESSONS], max_tokens=8)
    assert replies == [lesson.reply for lesson in LESSONS]
