"""Write the probe file of a config; the base and the sources write and answer; resumable."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from safemerge.errors import ConfigError, near_names
from safemerge.inputs import open_inputs
from safemerge.live import stored_views
from search.config import SearchConfig
from search.runs.probe_sets import probe_judge, probe_reviewers
from search.runs.workbench import load_live, recipe_template, stored_tensor
from synth.engines import Engine
from synth.engines.openai import OpenAIEngine
from synth.engines.server import ServerSettings
from synth.engines.shared import SharedEngine, SwappedEngine, SwappedSchemaEngine
from synth.engines.transformers import TransformersEngine
from synth.engines.vllm import VllmEngine
from synth.judges.reviewer import Reviewer, RubricReviewer, SeveralReviewers
from synth.probes.probe import AXES, Axis, ProbeSet
from synth.progress import Report, silent
from synth.writing.config import ProbeConfig
from synth.writing.context import Terms
from synth.writing.one_writer import one_writer
from synth.writing.pipeline import ProbeReport, WritingInputs, check_files, make_probes

log = logging.getLogger(__name__)


def write_probes(
    config: SearchConfig,
    *,
    terms: Terms | None = None,
    report: Report = silent,
) -> ProbeReport | None:
    """Make the probes that `[probes.write]` describes and write them to `probes.path`.

    Args:
        terms: the facts, acts or names on which a question turns, where they are known.

    Returns:
        What was written and dropped, or None where the file exists already and was left alone.

    Raises:
        ConfigError: there is nothing to write from.
        ProbeError: a file that the section names cannot be used.
        OutputError: the file cannot be written, or another command is writing it.
    """
    path = Path(config.probes.path)
    recipe = config.probes.write
    if recipe is None and not path.exists():
        raise ConfigError(
            f"{path} does not exist and the config has no [probes.write] section to make it from; "
            "add one, or put your own probes there"
        )
    if recipe is not None and not path.exists():
        check_files(recipe)
    with one_writer(path):
        if path.exists() or recipe is None:
            ProbeSet.from_jsonl(path)  # a damaged file is said now, not in a search
            return None
        return _write(config, recipe, terms, report)


def _write(
    config: SearchConfig, recipe: ProbeConfig, terms: Terms | None, report: Report
) -> ProbeReport:
    report("probes", 0, 1, "loading models")
    heldout = config.probes.heldout
    judge = probe_judge(config)  # before the writers: a guard that cannot be had is said at once
    reviewers = list(probe_reviewers(config, judge))
    pool = writers(config)
    if not recipe.reviewers and not any(one.waives for one in reviewers):
        reviewers.append(RubricReviewer(pool["base"]))
    reviewer = SeveralReviewers(reviewers)
    if recipe.reviewers and (unread := _unread(recipe, reviewer)):
        log.warning(
            "nobody reviews the %s questions that are written: many may not be what their axis "
            "says, so read what is kept before you believe a score",
            " and ".join(unread),
        )
    inputs = WritingInputs(
        pool=pool,
        judge=judge,
        reviewer=reviewer,
        heldout=ProbeSet.from_jsonl(heldout) if heldout is not None else None,
        terms=terms,
    )
    _, result = make_probes(
        recipe,
        inputs,
        seed=config.seed,
        progress=lambda axis, done, wanted: report(f"probes: {axis}", done, wanted, ""),
        out=Path(config.probes.path),
    )
    report("probes", 1, 1, "")
    return result


def _unread(recipe: ProbeConfig, reviewer: Reviewer) -> list[Axis]:
    """Axes that models write and nobody reads."""
    return [
        axis
        for axis in AXES
        if recipe.counts.of(axis) and not recipe.brings(axis) and axis not in reviewer.reads
    ]


def writers(config: SearchConfig) -> Mapping[str, Engine]:
    """An engine for the base and for every source, by name.

    In this process they share one engine, and so the base's tokenizer and chat template.

    Raises:
        ConfigError: a model has no server, or a server is named for no model.
    """
    if config.engine.kind == "openai":
        return _served(config)
    inputs = open_inputs(recipe_template(config))
    arguments, chat = config.engine.arguments, config.models.chat
    names = ["base", *(source.name for source in config.models.sources)]
    places = [None, *range(len(config.models.sources))]
    if config.engine.kind == "vllm":
        held = VllmEngine(config.models.base, arguments=arguments, chat=chat)

        def put_into_vllm(source: int | None) -> None:
            state = {name: stored_tensor(inputs, name, source) for name in inputs.merged_names}
            held.load_weights(state)

        shared = SharedEngine(held)
        return {
            name: SwappedSchemaEngine(shared, partial(put_into_vllm, place))
            for name, place in zip(names, places, strict=True)
        }
    live = TransformersEngine(config.models.base, device=config.engine.device, chat=chat)
    views = stored_views(live.model, inputs.merged_names)
    shared = SharedEngine(live)
    return {
        name: SwappedEngine(shared, partial(load_live, views, inputs, place))
        for name, place in zip(names, places, strict=True)
    }


def _served(config: SearchConfig) -> dict[str, Engine]:
    section = config.engine
    names = ["base", *(source.name for source in config.models.sources)]
    urls = section.url if isinstance(section.url, dict) else dict.fromkeys(names, section.url or "")
    for name in (*urls, *section.model):
        if name not in names:
            raise ConfigError(
                f"engine.url or engine.model names {name!r}, which is no model of this file; "
                f"{near_names(name, names)}"
            )
    for name in names:
        if name not in urls:
            raise ConfigError(f"engine.url has no server for the model {name!r}; add it")
    return {
        name: OpenAIEngine(
            ServerSettings(
                urls[name],
                model=section.model.get(name),
                key=section.key,
                concurrency=section.concurrency,
                timeout_s=section.timeout_s,
                arguments=section.arguments,
            ),
            tokenizer=config.models.base,
            chat=config.models.chat,
        )
        for name in names
    }
