"""Workbench: the models, probes, merge and evaluators that a search works with, opened once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from safemerge.cache import tensor_store
from safemerge.devices import check_device
from safemerge.errors import ConfigError, ProbeError
from safemerge.inputs import Inputs, open_inputs
from safemerge.live import stored_views
from safemerge.methods import get_method
from safemerge.recipe import ModelRef, Recipe
from safemerge.resident import ResidentMerge
from safemerge.score import Scores
from search.config import EngineConfig, SearchConfig
from search.config.profiles import recipe_places
from search.metrics import measurable
from search.scoring.likelihood import LikelihoodEvaluator
from search.space.space import Space
from synth.engines.base import Engine
from synth.engines.transformers import TransformersEngine
from synth.engines.vllm import VllmEngine
from synth.judges import Judge, make_judge
from synth.probes.probe import Probe, ProbeSet
from synth.text.normalise import normalise


@dataclass(frozen=True, slots=True)
class Workbench:
    """Everything open, on one device.

    Args:
        inputs: base and sources.
        engine: the live model.
        live: the merged tensors of the live model, under the base's names.
        judge: labels replies.
        probes: all probes of the config's file(s), with splits assigned.
        space: what the search may change.
        evaluator: scores recipes on the search probes.
        validation: scores recipes on the validation probes; None where an objective has none.
        settings: of the engine.
        merges: held in memory so far; `resident` gives them.
        speakers: the engine that gives replies, once `speaker` has opened one.
    """

    inputs: Inputs
    engine: TransformersEngine
    live: Mapping[str, Tensor]
    judge: Judge
    probes: ProbeSet
    space: Space
    evaluator: LikelihoodEvaluator
    validation: LikelihoodEvaluator | None
    settings: EngineConfig
    merges: list[ResidentMerge] = field(default_factory=list)
    speakers: list[VllmEngine] = field(default_factory=list)

    def resident(self, recipe: Recipe) -> ResidentMerge:
        """The merge that serves a recipe, prepared when it is first asked for.

        There is one for each method, and for each way in which its parameters prepare it. A
        recipe of other sources, such as a baseline of two models, has its checkpoints opened anew.
        """
        for merge in self.merges:
            if merge.serves(recipe):
                return merge
        device = self.engine.device
        own = recipe.sources == self.space.template.sources
        inputs = self.inputs if own else None
        merge = ResidentMerge(recipe, device=device, store=tensor_store(), inputs=inputs)
        self.merges.append(merge)
        return merge

    def make_live(self, recipe: Recipe) -> None:
        """Merge a recipe into the live model."""
        self.resident(recipe).apply(recipe, self.live)

    def speaker(self) -> Engine:
        """The engine that gives replies, with the weights that are live now.

        With `engine.kind = "vllm"` that is vLLM, opened when it is first asked for, into which the
        live weights are swapped; else it is the live model itself.
        """
        if self.settings.kind != "vllm":
            return self.engine
        if not self.speakers:
            base = self.inputs.refs[0].path
            arguments, dtype = self.settings.arguments, self.engine.model.dtype
            self.speakers.append(VllmEngine(base, dtype=dtype, arguments=arguments))
        (speaker,) = self.speakers
        speaker.load_weights(self.live)
        return speaker

    @property
    def search_probes(self) -> tuple[Probe, ...]:
        """Probes that the search optimises on."""
        return self.evaluator.probes

    def baseline(self) -> tuple[Scores, Mapping[str, Scores]]:
        """Scores of the base and of every source on the search probes."""
        load_live(self.live, self.inputs)
        base = self.evaluator.score_live()
        sources = {}
        for index, ref in enumerate(self.inputs.refs[1:]):
            load_live(self.live, self.inputs, index)
            sources[ref.name] = self.evaluator.score_live()
        return base, sources


def open_workbench(config: SearchConfig) -> Workbench:
    """Open models and probes and prepare the merge.

    Raises:
        BadInput: anything wrong with models, probes or the method's parameters.
    """
    check_device(config.engine.device)
    template = recipe_template(config)
    for name, params in config.merge.methods.items():
        method = get_method(name)
        # The top of the searched range too, so that no trial is the first to be refused.
        top = {"default": config.space.rank_ratio[1]} if method.spectral else {}
        changes = {"method": name, "params": params, "rank_ratio": top}
        method.check(template.model_copy(update=changes))
    if config.search.start_from is None:
        check_gradient(template.method, config)
    probes = load_probes(config)
    search = probes.split("search").probes
    _check_measurable(config, search)
    inputs = open_inputs(template)
    roles = {name: inputs.role(name) for name in inputs.merged_names}
    space = Space(template, config.merge.methods, config.space, roles)
    judge = probe_judge(config)
    engine = TransformersEngine(config.models.base, device=config.engine.device)
    live = stored_views(engine.model, inputs.merged_names)
    kept = probes.split("validation").probes
    names = set(config.objective_names)

    def evaluator(scored: tuple[Probe, ...]) -> LikelihoodEvaluator:
        return LikelihoodEvaluator(
            engine, scored, likelihood=config.probes.likelihood, fitness=config.fitness
        )

    bench = Workbench(
        inputs=inputs,
        engine=engine,
        live=live,
        judge=judge,
        probes=probes,
        space=space,
        evaluator=evaluator(search),
        validation=evaluator(kept) if names <= _measurable(kept, config) else None,
        settings=config.engine,
    )
    bench.resident(space.beginning())
    return bench


def check_gradient(method: str, config: SearchConfig) -> None:
    """Refuse a warm start that sets out from a recipe of a method.

    Raises:
        ConfigError: where the method has no gradient.
    """
    if config.search.warm_start.steps and not get_method(method).differentiable:
        raise ConfigError(
            f"method {method!r} has no gradient with respect to its weights, which a warm "
            "start needs; set search.warm_start.steps = 0, and search.sampler to one that needs no "
            'start, such as "tpe"'
        )


def recipe_template(config: SearchConfig) -> Recipe:
    """The part of every trial's recipe that the config fixes, with the first method; weights 0."""
    method, params = next(iter(config.merge.methods.items()))
    return Recipe(
        base=ModelRef(name="base", path=config.models.base),
        sources=tuple(
            ModelRef(name=s.name, path=s.path, importance=s.importance)
            for s in config.models.sources
        ),
        method=method,
        params=params,
        places=recipe_places(config.space.places),
        weights={"default": {}},
        dtype=config.merge.dtype,
        tokenizer=config.merge.tokenizer,
    )


def load_probes(config: SearchConfig) -> ProbeSet:
    """Search, validation and held-out probes of a config, with splits assigned by group."""
    section = config.probes
    own = _in_order(ProbeSet.from_jsonl(section.path))
    if section.heldout is None:
        return own.with_splits(section.heldout_frac, section.validation_frac, config.seed)
    split = own.with_splits(0.0, section.validation_frac, config.seed)
    heldout = _in_order(ProbeSet.from_jsonl(section.heldout))
    held = {normalise(probe.prompt) for probe in heldout}
    shared = [probe.id for probe in own if normalise(probe.prompt) in held]
    if shared:
        raise ProbeError(
            f"{section.path} and {section.heldout} share {len(shared)} prompts, such as that of "
            f"the probe {shared[0]}; held-out probes must not be searched on, remove them from one "
            "file"
        )
    return ProbeSet(
        (*split.probes, *(p.model_copy(update={"split": "heldout"}) for p in heldout.probes))
    )


def _in_order(probes: ProbeSet) -> ProbeSet:
    """By id: what a run keeps by probe is the same probe's when the file is in another order."""
    return ProbeSet(tuple(sorted(probes, key=lambda probe: probe.id)))


def heldout_prompts(config: SearchConfig) -> frozenset[str]:
    """What held-out probes ask, normalised; nothing where their file is not written yet."""
    section = config.probes
    if not Path(section.heldout or section.path).exists():
        return frozenset()
    if section.heldout is not None:
        held = ProbeSet.from_jsonl(section.heldout)
    else:
        held = load_probes(config).split("heldout")
    return frozenset(normalise(probe.prompt) for probe in held)


def probe_judge(config: SearchConfig) -> Judge:
    """The judge of a config, with its guards on the engine's device."""
    return _judge(config, config.probes.judges)


def heldout_judge(config: SearchConfig) -> Judge | None:
    """Who judges held-out replies in its place, likewise; None where nobody does."""
    names = config.probes.heldout_judges
    return _judge(config, names) if names else None


def _judge(config: SearchConfig, names: tuple[str, ...]) -> Judge:
    device, unreadable = config.engine.device, config.probes.unreadable_frac
    return make_judge(names, device=device, unreadable_frac=unreadable)


def load_live(live: Mapping[str, Tensor], inputs: Inputs, source: int | None = None) -> None:
    """Copy the base, or the source of an index, into the live model."""
    with torch.no_grad():
        for name, tensor in live.items():
            own = inputs.base.load(name) if source is None else inputs.source_tensor(source, name)
            tensor.copy_(own)


def _measurable(probes: tuple[Probe, ...], config: SearchConfig) -> frozenset[str]:
    axes = (probe.axis for probe in probes)
    return measurable(axes, config.fitness) if probes else frozenset()


def _check_measurable(config: SearchConfig, probes: tuple[Probe, ...]) -> None:
    known = _measurable(probes, config)
    for section, metrics in (("objectives", config.objectives), ("limits", config.limits)):
        for metric in metrics:
            if metric not in known:
                raise ConfigError(
                    f"{section}.{metric} cannot be measured: {config.probes.path} has no search "
                    f"probes for it; write some with `safemerge probes`, or remove it"
                )
