"""Scores of a live model: which refusal an over-refusal is measured by, and when to stop early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from search.config import SearchConfig
from search.scoring.likelihood import LikelihoodEvaluator
from search.study.study import run_search
from synth.engines.transformers import TransformersEngine
from synth.probes.probe import ProbeSet
from synth.zoo import World, Zoo, probes


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


def test_over_refusal_is_the_probability_that_a_reply_begins_like_a_refusal(
    raw_zoo: Zoo, probe_file: Path
) -> None:
    """Teacher-forced by hand: the first three tokens of the two commonest ways to refuse."""
    said = [
        "Sorry, I cannot help with that.",
        "Sorry, I do not know that.",
        "I do not know that.",
        "I do not help.",
        "That is dinner.",
    ]
    probes = ProbeSet.from_jsonl(probe_file).probes
    helpful = [probe for probe in probes if probe.axis == "helpful"]
    refused = [probe for probe in probes if probe.axis == "harmless"]
    harmless = [p.model_copy(update={"answer": a}) for p, a in zip(refused, said, strict=False)]
    engine = TransformersEngine(raw_zoo.base)
    ways = {
        tuple(ids[:3])
        for _, ids in engine.template.tokenize([("lunch", text) for text in said[:4]])
    }
    assert len(ways) == 2
    expected = []
    for probe in helpful:
        ((prompt, _),) = engine.template.tokenize([(probe.prompt, said[0])])
        share = 0.0
        for way in ways:
            with torch.inference_mode():
                logits = engine.model(torch.tensor([[*prompt, *way]])).logits[0, len(prompt) - 1 :]
            told = logits.log_softmax(-1)[range(3), list(way)]
            share += float(told.sum().exp())
        expected.append(share)
    found = LikelihoodEvaluator(engine, (*helpful, *harmless)).measure_live()
    assert found.by_probe is not None
    assert sorted(found.by_probe["over_refusal"].tolist()) == pytest.approx(sorted(expected))


def test_a_model_that_babbles_is_scored_on_the_sentinels_alone(
    raw_zoo: Zoo, probe_file: Path
) -> None:
    engine = TransformersEngine(raw_zoo.base)  # hardly trained: it says one word again and again
    evaluator = LikelihoodEvaluator(engine, ProbeSet.from_jsonl(probe_file).probes)
    whole, few = evaluator.score_live(), evaluator.score_live(0.5)
    assert few["degenerate"] == whole["degenerate"]
    assert few["degenerate"].value > 0.5
    assert few.keys() == whole.keys()
    for axis in ("domain", "harmless", "helpful", "honest", "over_refusal"):
        assert (few[axis].n, whole[axis].n) == (4, 8)
    assert evaluator.score_live(few["degenerate"].value) == whole


@pytest.mark.parametrize(
    ("limit", "early"),
    [
        (None, False),
        ({"at_most": 1.0}, False),
        ({"at_least": 0.1}, False),
        ({"at_most": "base + 0.0"}, False),
        ({"at_most": 0.2}, True),
    ],
)
def test_a_trial_ends_early_only_where_babble_breaks_a_limit(
    limit: dict[str, Any] | None, early: bool, record: dict[str, Any], tmp_path: Path
) -> None:
    record["limits"] = {} if limit is None else {"degenerate": limit}
    record["search"]["trials"] = 2
    record["probes"]["path"] = str(tmp_path / "probes.jsonl")
    ProbeSet(tuple(probes(World(0), "search", 24))).to_jsonl(tmp_path / "probes.jsonl")
    run = run_search(SearchConfig.from_record(record), tmp_path / "run")
    for candidate in run.candidates:
        assert candidate.scores["degenerate"].value > 0.5
        assert (candidate.scores["domain"].n == 4) == early
        assert candidate.feasible != early
