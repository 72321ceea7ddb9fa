"""Lessons in one row cost what they cost apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llama import WORDS, make_model, make_tokenizer

from synth.engines.template import open_template
from synth.real.own_replies import Lesson
from synth.real.tuning import lesson_loss

MODEL = make_model()
TOKENIZER = make_tokenizer()
TEMPLATE = open_template(TOKENIZER)
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)
LESSONS = st.lists(st.builds(Lesson, TEXTS, TEXTS, st.booleans()), min_size=1, max_size=5)


def plain_loss(model: Any, lesson: Lesson) -> tuple[float, int]:
    """Summed loss and number of tokens of one lesson in a row of its own, without any mask."""
    opened = f"<s><|user|> {lesson.prompt}<|end|>\n<|assistant|> "
    ids = TOKENIZER(opened, add_special_tokens=False)["input_ids"]
    reply = TOKENIZER(lesson.reply, add_special_tokens=False)["input_ids"]
    learned = [*reply, TOKENIZER.eos_token_id] if lesson.ended else reply
    with torch.no_grad():
        logits = model(torch.tensor([ids + learned])).logits[0].double()
    logprobs = torch.log_softmax(logits, -1)
    places = range(len(ids) - 1, len(ids) + len(learned) - 1)
    return -sum(float(logprobs[p, t]) for p, t in zip(places, learned, strict=True)), len(learned)


@settings(max_examples=30, deadline=None)
@given(LESSONS)
def test_loss_of_a_packed_row_equals_that_of_rows_apart(lessons: list[Lesson]) -> None:
    apart = [plain_loss(MODEL, lesson) for lesson in lessons]
    total, count = sum(loss for loss, _ in apart), sum(n for _, n in apart)
    assert lesson_loss(MODEL, TEMPLATE, lessons).item() == pytest.approx(total / count, abs=1e-4)
