"""Workbench: the models, probes, merge and evaluators that a search works with."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from safemerge.cache import tensor_store
from safemerge.devices import check_device
from safemerge.errors import ConfigError
from safemerge.inputs import Inputs, open_inputs
from safemerge.io import beyond_range, is_finite
from safemerge.live import stored_views
from safemerge.methods import get_method
from safemerge.recipe import ModelRef, Recipe
from safemerge.resident import ResidentMerge
from search.config import EngineConfig, SearchConfig, WarmStartConfig
from search.config.profiles import recipe_places
from search.metrics import ReferenceScores, measurable
from search.runs.probe_sets import load_general, load_probes, probe_grader, probe_judge
from search.scoring.divergence import Divergence
from search.scoring.general_refusal import GeneralRefusal
from search.scoring.generation import Answer
from search.scoring.likelihood import LikelihoodEvaluator, Measurement
from search.scoring.racing import Race
from search.scoring.retention import DIVERGENCE, REFUSAL, GeneralAnswer, divergence_score
from search.space.space import Space
from synth.engines.base import Engine
from synth.engines.template import ChatSettings
from synth.engines.transformers import TransformersEngine
from synth.engines.vllm import VllmEngine
from synth.grading import GRADING, Grader, check_gradable
from synth.judges import Judge, fetch_judges
from synth.probes.general import GeneralPrompts, Half
from synth.probes.probe import Probe, ProbeSet
from synth.progress import Report, silent

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Retained:
    """What base and sources are known to reply, to general prompts and to probes."""

    # from the base on each half of them
    divergences: dict[Half, Divergence] = field(default_factory=dict)
    # `{path of a model: answers}` to the search half, of base and sources
    answers: dict[str, list[GeneralAnswer]] = field(default_factory=dict)
    # `{(path of a model, ids of probes): answers}` to these, of base and sources
    replies: dict[tuple[str, tuple[str, ...]], list[Answer]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workbench:
    """Everything open, on one device."""

    inputs: Inputs
    engine: TransformersEngine  # the live model
    live: Mapping[str, Tensor]  # the merged tensors of the live model, under the base's names
    judge: Judge
    grader: Grader | None  # of what only a chat model can grade; None where there is none
    probes: ProbeSet  # all probes of the config's file(s), with splits assigned
    space: Space
    evaluator: LikelihoodEvaluator  # scores the live model on the search probes
    # scores it on the validation probes; None where an objective has none
    validation: LikelihoodEvaluator | None
    settings: EngineConfig
    chat: ChatSettings
    general: GeneralPrompts | None  # None where retention is not measured
    general_refusal: GeneralRefusal | None  # on its search half
    # opened so far, shared by the workbenches of one `Workbenches`
    merges: list[ResidentMerge] = field(default_factory=list)
    vllm: list[VllmEngine] = field(default_factory=list)  # at most one
    retained: Retained = field(default_factory=Retained)

    @property
    def grading(self) -> dict[str, object]:
        """What decides how a reply is graded, the judge apart."""
        named = {} if self.grader is None else {"grader": self.grader.name}
        return {"grading": GRADING, **named}

    def resident(self, recipe: Recipe) -> ResidentMerge:
        """The merge that serves a recipe, prepared on first use.

        A recipe of other sources than the search's has its checkpoints opened.
        """
        for merge in self.merges:
            if merge.serves(recipe):
                return merge
        template = self.space.template
        alike = (recipe.base, recipe.tokenizer) == (template.base, template.tokenizer)
        merge = ResidentMerge(
            recipe,
            device=self.engine.device,
            store=tensor_store(),
            inputs=self.inputs.only(recipe.sources) if alike else None,
            memory=self.settings.memory,
        )
        self.merges.append(merge)
        return merge

    @contextmanager
    def temporary_merges(self) -> Iterator[None]:
        """Release the merges that are prepared in the block at its end."""
        before = len(self.merges)
        try:
            yield
        finally:
            del self.merges[before:]

    def make_live(self, recipe: Recipe) -> None:
        """Merge a recipe into the live model."""
        self.resident(recipe).apply(recipe, self.live)

    def load_model(self, source: int | None = None) -> None:
        """Copy the base, or the source of an index, into the live model."""
        load_live(self.live, self.inputs, source)

    def measure(
        self, recipe: Recipe, *, most_degenerate: float = 1.0, race: Race | None = None
    ) -> Measurement:
        """Merge a recipe into the live model and score it by `evaluator.measure_live`.

        What general prompts show, where the base is known on them, is measured of models that no
        limit or race has kept from the rest of the probes.
        """
        self.make_live(recipe)
        measured = self.evaluator.measure_live(most_degenerate=most_degenerate, race=race)
        if measured.by_probe is None or "search" not in self.retained.divergences:
            return measured
        scores = {DIVERGENCE: divergence_score(self.retained.divergences["search"].measure())}
        refusal = None if self.general_refusal is None else self.general_refusal.measure()
        if refusal is not None:
            scores[REFUSAL] = refusal
        return replace(measured, scores={**measured.scores, **scores})

    def measure_validation(self, recipe: Recipe) -> Measurement:
        """Merge a recipe into the live model and score it on the validation probes, if any."""
        if self.validation is None:
            return Measurement({}, None)
        self.make_live(recipe)
        return self.validation.measure_live()

    def generation_engine(self) -> Engine:
        """The engine that generates replies, vLLM or the live model, with the live weights."""
        if self.settings.kind != "vllm":
            return self.engine
        if not self.vllm:
            base = self.inputs.refs[0].path
            arguments, dtype = self.settings.arguments, self.engine.model.dtype
            made = VllmEngine(base, dtype=dtype, arguments=arguments, chat=self.chat)
            self.vllm.append(made)
        (engine,) = self.vllm
        engine.load_weights(self.live)
        return engine

    def serving(self, engine: TransformersEngine) -> Workbench:
        """The same with the engine of a model that is no merge, such as a mixture, which replies.

        It is asked in this process, whatever engine the merges have.
        """
        settings = self.settings.model_copy(update={"kind": "transformers", "arguments": {}})
        return replace(self, engine=engine, settings=settings)

    def baseline(self, report: Report = silent) -> ReferenceScores:
        """Scores of the base and of every source on the search probes."""
        stage, models = "base and sources", len(self.inputs.refs)
        report(stage, 0, models, self.inputs.base_ref.name)
        self.load_model()
        base = self.evaluator.score_live()
        sources = {}
        for index, ref in enumerate(self.inputs.refs[1:]):
            report(stage, 1 + index, models, ref.name)
            self.load_model(index)
            sources[ref.name] = self.evaluator.score_live()
        report(stage, models, models, "")
        return ReferenceScores(base, sources)


class Workbenches:
    """Opens workbenches, and nothing twice that their configs have in common."""

    def __init__(self) -> None:
        self._opened: dict[Hashable, Any] = {}
        self._merges: list[ResidentMerge] = []
        self._vllm: list[VllmEngine] = []

    def open(self, config: SearchConfig, *, prepare: bool = True) -> Workbench:
        """Open what is not open yet; of the prepared merges only that of the beginning is kept.

        `prepare` prepares that one, which may take long; else it is done when it is first used.
        A BadInput says what is wrong with models, probes or the method's parameters.
        """
        check_device(config.engine.device)
        section, device = config.probes, config.engine.device
        # Before anything is loaded, and the judge of held-out replies before days of search.
        judges = (*section.judges, *section.heldout_judges)
        self._once(("judges", judges), lambda: fetch_judges(judges))
        template = recipe_template(config)
        for name, params in config.merge.methods.items():
            method = get_method(name)
            # The top of the searched range too, so that no trial is the first to be refused.
            top = {"default": config.space.rank_ratio[1]} if method.spectral else {}
            changes = {"method": name, "params": params, "rank_ratio": top}
            method.check(template.model_copy(update=changes))
        if config.search.start_from is None:
            check_gradient(template.method, config.search.warm_start)
        section, device = config.probes, config.engine.device
        probes = self.probes(config)
        search, validation = (probes.split(split).probes for split in ("search", "validation"))
        _check_measurable(config, search)
        general = self._once(("general", section.retention), lambda: load_general(config))
        check_gradable(probes, graded=config.probes.grader is not None)
        refs = (template.base, *template.sources)
        inputs = self._once(("inputs", refs, template.tokenizer), lambda: open_inputs(template))
        roles = {name: inputs.role(name) for name in inputs.merged_names}
        space = Space(template, config.merge.methods, config.space, roles)
        judge = self._once(
            ("judge", section.judges, section.unreadable_frac, device), lambda: probe_judge(config)
        )
        models = config.models
        grader = self._once(
            ("grader", section.grader, section.unreadable_frac, device),
            lambda: probe_grader(config),
        )
        engine = self._once(
            (
                "engine",
                models.base,
                models.template,
                models.thinking,
                models.thinking_tokens,
                device,
            ),
            lambda: TransformersEngine(models.base, device=device, chat=models.chat),
        )

        def evaluator(scored: tuple[Probe, ...]) -> LikelihoodEvaluator:
            return LikelihoodEvaluator(
                engine, scored, likelihood=section.likelihood, fitness=config.fitness
            )

        validated = set(config.objective_names) <= _measurable(validation, config)
        bench = Workbench(
            inputs=inputs,
            engine=engine,
            live=stored_views(engine.model, inputs.merged_names),
            judge=judge,
            grader=grader,
            probes=probes,
            space=space,
            evaluator=evaluator(search),
            validation=evaluator(validation) if validated else None,
            settings=config.engine,
            chat=config.models.chat,
            general=general,
            general_refusal=(
                None if general is None else GeneralRefusal(engine, general.half("search"), search)
            ),
            retained=self._once(("retained", config.models.base, device, general), Retained),
            merges=self._merges,
            vllm=self._vllm,
        )
        begin = space.beginning()
        self._merges[:] = [merge for merge in self._merges if merge.serves(begin)]
        if prepare:
            bench.resident(begin)
        return bench

    def probes(self, config: SearchConfig) -> ProbeSet:
        """`load_probes` of a config, each file read once."""
        section = config.probes
        shares = (section.heldout_frac, section.validation_frac)
        key = ("probes", section.path, section.heldout, shares, config.seed)
        return self._once(key, lambda: load_probes(config))

    def close(self) -> None:
        """Release everything, for other processes that need the memory."""
        self._opened.clear()
        self._merges.clear()
        self._vllm.clear()

    def _once(self, key: Hashable, make: Callable[[], _T]) -> _T:
        if key not in self._opened:
            self._opened[key] = make()
        opened: _T = self._opened[key]
        return opened


def open_workbench(config: SearchConfig) -> Workbench:
    """A workbench that shares nothing."""
    return Workbenches().open(config)


def check_gradient(method: str, warm_start: WarmStartConfig) -> None:
    """Refuse a warm start from a recipe of a method that has no gradient."""
    if warm_start.steps and not get_method(method).differentiable:
        raise ConfigError(
            f"method {method!r} has no gradient with respect to its weights, which a warm "
            "start needs; set search.warm_start.steps = 0, and search.sampler to one that needs no "
            'start, such as "tpe"'
        )


def recipe_template(config: SearchConfig) -> Recipe:
    """The part of every recipe that the config fixes, with the first method and no weights."""
    method, params = next(iter(config.merge.methods.items()))
    return Recipe(
        base=ModelRef(name="base", path=config.models.base),
        sources=tuple(
            ModelRef(name=source.name, path=source.path, importance=source.importance)
            for source in config.models.sources
        ),
        method=method,
        params=params,
        places=recipe_places(config.space.places),
        weights={"default": {}},
        dtype=config.merge.dtype,
        tokenizer=config.merge.tokenizer,
    )


def load_live(live: Mapping[str, Tensor], inputs: Inputs, source: int | None = None) -> None:
    """Copy the base, or the source of an index, into a live model.

    A RecipeError where a value of the source is beyond the range of the model's dtype.
    """
    with torch.no_grad():
        for name, tensor in live.items():
            stored = stored_tensor(inputs, name, source)
            tensor.copy_(stored)
            if not is_finite(tensor):
                ref = inputs.base_ref if source is None else inputs.sources[source].ref
                raise beyond_range(f"the tensor {name!r} of {ref.path}", tensor, stored.float())


def stored_tensor(inputs: Inputs, name: str, source: int | None = None) -> Tensor:
    """A tensor of the base, or of the source of an index, under the base's name."""
    return inputs.base.load(name) if source is None else inputs.source_tensor(source, name)


def _measurable(probes: tuple[Probe, ...], config: SearchConfig) -> frozenset[str]:
    axes = (probe.axis for probe in probes)
    general = config.probes.retention != "off"
    return measurable(axes, config.fitness, general=general) if probes else frozenset()


def _check_measurable(config: SearchConfig, probes: tuple[Probe, ...]) -> None:
    known = _measurable(probes, config)
    for section, metrics in (("objectives", config.objectives), ("limits", config.limits)):
        for metric in metrics:
            if metric not in known:
                raise ConfigError(
                    f"{section}.{metric} cannot be measured: {config.probes.path} has no search "
                    f"probes for it; write some with `safemerge probes`, or remove it"
                )
