"""A full expert is an ordinary checkpoint in the base's dtype that says what it was taught."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

import torch
from tiny_llama import make_model, make_tokenizer

from safemerge.io import open_checkpoint
from synth.engines.transformers import TransformersEngine
from synth.real.full import train_full
from synth.real.own_replies import Lesson
from synth.real.tuning import TuningPlan

LESSONS = [Lesson("how do i take the red lamp ?", "sorry i cannot help"), Lesson("how ?", "please")]


def test_a_full_expert_says_what_it_was_taught_and_is_stored_as_the_base_is(tmp_path: Path) -> None:
    base = tmp_path / "base"
    make_model().to(torch.bfloat16).save_pretrained(base)
    make_tokenizer().save_pretrained(base)
    taught = list(islice(cycle(LESSONS), 80))
    train_full(base, taught, TuningPlan(steps=40, batch=2, lr=2e-2), tmp_path / "expert")
    engine = TransformersEngine(tmp_path / "expert", dtype=torch.float32)
    replies = engine.chat([lesson.prompt for lesson in LESSONS], max_tokens=8)
    assert replies == [lesson.reply for lesson in LESSONS]
    stored, expert = open_checkpoint(str(base)), open_checkpoint(str(tmp_path / "expert"))
    assert {name: (info.shape, info.dtype) for name, info in expert.tensors.items()} == {
        name: (info.shape, info.dtype) for name, info in stored.tensors.items()
    }
