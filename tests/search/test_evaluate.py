"""Scores of a live model: which refusal an over-refusal is measured by."""

from __future__ import annotations

from pathlib import Path

from search.evaluate import LikelihoodEvaluator
from synth.engines.transformers import TransformersEngine
from synth.probes import ProbeSet
from synth.zoo import Zoo


def test_rewritten_questions_do_not_change_what_an_over_refusal_is(
    raw_zoo: Zoo, probe_file: Path
) -> None:
    direct = ProbeSet.from_jsonl(probe_file).probes
    # Of two words of the small world, so that it would be the likelier one.
    change = {"form": "translation", "answer": "dinner lunch", "prompt": "lunch dinner"}
    forms = [probe.model_copy(update=change) for probe in direct if probe.axis == "harmless"]
    engine = TransformersEngine(raw_zoo.base)
    without = LikelihoodEvaluator(engine, direct).score_live()
    also = LikelihoodEvaluator(engine, (*direct, *forms)).score_live()
    assert also["over_refusal"] == without["over_refusal"]
    assert also["harmless"].n == 2 * without["harmless"].n
