"""Batches that do not fit into memory are halved, and nothing is lost or answered twice."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from safemerge.errors import EngineError
from synth.engines.halving import Halving
from synth.engines.transformers import TransformersEngine

PROMPTS = ["how do i take the red lamp ?", "how ?", "lamp", "the blue shelf", "how do i help ?"]
PAIRS = [(prompt, "take the lamp from a shelf .") for prompt in PROMPTS]


def short_of_memory(model: Any, most_rows: int) -> Any:
    """A hook with which forward passes of more rows fail as they do on a full device."""

    def refuse(_: object, args: object, kwargs: dict[str, Any]) -> None:
        if len(kwargs["input_ids"]) > most_rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return model.register_forward_pre_hook(refuse, with_kwargs=True)


def test_an_engine_goes_on_with_smaller_batches_and_says_so(
    model: Any,
    tokenizer: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TransformersEngine, "_packable_tokens", 0)  # rows that can be halved
    engine = TransformersEngine(model, tokenizer=tokenizer)
    sampled = {"max_tokens": 6, "temperature": 1.0, "seed": 3}
    scores, replies = engine.loglikelihood(PAIRS), engine.chat(PROMPTS, **sampled)
    hook = short_of_memory(model, most_rows=2)
    try:
        with caplog.at_level(logging.WARNING):
            again, replied = engine.loglikelihood(PAIRS), engine.chat(PROMPTS, **sampled)
            warned = len(caplog.records)
            engine.loglikelihood(PAIRS)
    finally:
        hook.remove()
    assert replied == replies
    assert [one.logprob for one in again] == pytest.approx([s.logprob for s in scores], abs=1e-4)
    assert "out of memory when scoring 5 rows" in caplog.text
    assert "out of memory when generating 5 rows" in caplog.text
    assert len(caplog.records) == warned  # the second time it began with what fits


def test_a_row_that_does_not_fit_is_one_clear_error(model: Any, tokenizer: Any) -> None:
    engine = TransformersEngine(model, tokenizer=tokenizer)
    hook = short_of_memory(model, most_rows=0)
    try:
        with pytest.raises(EngineError, match=r"scoring one row of \d+ tokens takes more memory"):
            engine.loglikelihood(PAIRS)
    finally:
        hook.remove()


def test_every_row_is_worked_on_once() -> None:
    done: list[int] = []

    def work(rows: slice) -> int:
        if rows.stop - rows.start > 3:
            raise torch.OutOfMemoryError("full")
        done.extend(range(rows.start, rows.stop))
        return rows.start

    halving = Halving("testing")
    assert [start for _, start in halving.parts(13, 7, work)] == [0, 3, 6, 9, 12]
    assert done == list(range(13))
