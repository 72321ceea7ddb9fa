"""What a tuned mixture is worth: rates on held-out probes, and where it sends their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from safemerge.fusion.routing import Routes, gating_accuracy, routes, without_expert
from safemerge.score import Score
from search.config import SearchConfig
from search.fusion.examples import probe_examples
from search.fusion.record import Tuned
from search.results.answers import Respondent
from search.runs.workbench import Workbench
from search.scoring.likelihood import LikelihoodEvaluator
from synth.engines.transformers import TransformersEngine
from synth.probes.probe import Probe
from synth.progress import Report

ROW = "h3fusion"  # of a table


class Routing(BaseModel):
    """Where the tokens of held-out answers go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    experts: list[str]  # E names
    # `{axis: (layers, E)}`, share of the top k places that each expert gets; a row sums to 1
    shares: dict[str, list[list[float]]]
    gates: dict[str, list[list[float]]]  # the same of the router's softmax
    # share of the probes whose expert has the largest mean gate; None where no axis has one
    gating_accuracy: float | None
    # `{expert, or "": all of them on: scores}` by likelihood, while that expert gets no token
    switched_off: dict[str, dict[str, Score]]


class FusionTable(BaseModel):
    """heldout.json of a mixture that was tuned on its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: dict[str, dict[str, Score]]  # rates of replies, by model
    routing: Routing


def mixture_row(config: SearchConfig, tuned: Tuned) -> Respondent:
    """The mixture as a model that answers probes; it is loaded when it is first asked."""

    @cache
    def engine() -> TransformersEngine:
        return mixture_engine(config, tuned)

    return Respondent(ROW, f"{ROW}-{tuned.digest}.jsonl", lambda: None, engine=engine)


def mixture_engine(config: SearchConfig, tuned: Tuned) -> TransformersEngine:
    """The exported checkpoint, as a user would load it."""
    device, chat = config.engine.device, config.models.chat
    return TransformersEngine(Path(tuned.folder), device=device, chat=chat)


def measure_routing(
    config: SearchConfig, engine: TransformersEngine, bench: Workbench, report: Report
) -> Routing:
    """Routes of held-out answers, and the likelihood of these with each expert switched off."""
    section = config.fusion
    assert section is not None  # the mixture was made of it
    names = [source.name for source in config.models.sources]
    experts = {axis: names.index(source) for axis, source in section.experts.items()}
    probes = bench.probes.split("heldout").probes
    examples = probe_examples(engine.template, probes, experts)
    report("routing", 0, 1 + len(names), "")
    found = routes(engine.model, examples)
    evaluator = LikelihoodEvaluator(engine, probes, likelihood=config.probes.likelihood)
    off = {"": evaluator.score_live()}
    for number, name in enumerate(names):
        report("routing", 1 + number, 1 + len(names), f"without {name}")
        with without_expert(engine.model, number):
            off[name] = evaluator.score_live()
    report("routing", 1 + len(names), 1 + len(names), "")
    return Routing(
        experts=names,
        shares=_by_axis(found, probes, "shares"),
        gates=_by_axis(found, probes, "gates"),
        gating_accuracy=gating_accuracy(found, examples),
        switched_off=off,
    )


def _by_axis(found: Routes, probes: Sequence[Probe], which: str) -> dict[str, list[list[float]]]:
    values: Any = getattr(found, which)
    rows: dict[str, list[int]] = {}
    for row, probe in enumerate(probes):
        rows.setdefault(probe.axis, []).append(row)
    return {axis: values[own].mean(dim=0).tolist() for axis, own in sorted(rows.items())}
