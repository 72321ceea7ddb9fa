"""Whether everything that a search needs is there and fits together, one check after another.

Each finds its own fault, so that several are told at once; `Workbenches.open` makes the same checks
when a search begins, and ends with the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from safemerge.devices import check_device
from safemerge.errors import BadInput, MissingDependency, SafemergeError
from safemerge.inputs import open_inputs
from safemerge.io import Adapter, Checkpoint, open_checkpoint
from safemerge.recipe import ModelRef
from search.config import SearchConfig
from search.doctor.estimate import gigabytes
from search.runs.probe_sets import load_general, load_probes
from search.runs.workbench import recipe_template
from search.samplers.choose import check_sampler
from search.samplers.quiet_optuna import quiet_optuna
from search.study.storage import check_storage
from synth.engines.loading import load_tokenizer
from synth.engines.template import open_template
from synth.judges import fetch_judges, parse_judge
from synth.judges.reviewer import NONE
from synth.judges.served import VLLM, fetch, is_server
from synth.probes.probe import AXES, ProbeSet


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    what: str  # such as "source medic"
    told: str  # what is there, or the sentence of what is wrong
    well: bool = True


def check_models(config: SearchConfig) -> list[Finding]:
    """Base and sources: found, whole, of one family and tokenizer; each source by itself."""
    template = recipe_template(config)
    found = [_found("base", lambda: _checkpoint(open_checkpoint(template.base.path)))]
    if not found[0].well:
        return found  # nothing can be told of sources without it

    def source(ref: ModelRef) -> str:
        # Whether methods take so few is not the question.
        (opened,) = open_inputs(template.model_copy(update={"sources": (ref,)})).sources
        stored = opened.stored
        if isinstance(stored, Adapter):
            ranks = sorted({stored.stored.tensors[p.a].shape[0] for p in stored.pairs.values()})
            size = gigabytes(sum(info.nbytes for info in stored.stored.tensors.values()))
            rank = f"rank {ranks[-1]}" if ranks else "no pairs"
            return f"LoRA, {rank}, {size}"
        return _checkpoint(stored)

    for ref in template.sources:
        found.append(_found(f"source {ref.name}", partial(source, ref)))
    return found


def check_template(config: SearchConfig) -> Finding:
    """The base's tokenizer, its chat template, and thinking as the config wants it."""

    def opened() -> str:
        tokenizer = load_tokenizer(config.models.base)
        plan = open_template(tokenizer, config.models.chat).plan
        thinks = "no thinking known to it" if plan.marks is None else "it knows thinking"
        return f"{len(tokenizer):,} tokens, template works; thinking {config.models.thinking}: " + (
            thinks
        )

    return _found("tokenizer and template", opened)


def check_judges(config: SearchConfig) -> list[Finding]:
    """Judges, the grader and the reviewer can be had; their models are not loaded."""
    section = config.probes
    wanted = [
        *(("judge", name) for name in section.judges),
        *(("held-out judge", name) for name in section.heldout_judges),
    ]
    reviewers = () if section.write is None else section.write.reviewers
    wanted += [("reviewer", name) for name in reviewers if name != NONE]

    def judge(name: str) -> str:
        fetch_judges([name])
        parts = parse_judge(name)
        if not parts.model:
            return f"{name}: needs no model"
        if parts.model.startswith(VLLM) and find_spec("vllm") is None:
            raise MissingDependency(
                f"the judge {name!r} runs in vLLM, which is not installed; install it with: pip "
                'install "safemerge[vllm]"'
            )
        kind = "a server, not asked yet" if is_server(parts.model) else "here"
        return f"{name}: {parts.model}, {kind}"

    found = [_found(role, partial(judge, name)) for role, name in wanted]
    grader = section.grader
    if grader is not None:
        found.append(_found("grader", lambda: f"{fetch('grader', grader) or grader}"))
    return found


def check_packages(config: SearchConfig) -> list[Finding]:
    """What the engine, the sampler and the storage need; said only where it is missing."""

    def engine() -> str:
        if config.engine.kind == "vllm" and find_spec("vllm") is None:
            raise MissingDependency(
                'engine.kind is "vllm", which is not installed; install it with: pip install '
                '"safemerge[vllm]", or set engine.kind = "transformers"'
            )
        check_device(config.engine.device)
        return config.engine.device

    def sampler() -> str:
        with quiet_optuna():
            check_sampler(config.search, config.directions)
        check_storage(config.search.storage)
        return config.search.sampler

    return [_found("device", engine), _found("sampler and storage", sampler)]


@dataclass(frozen=True, slots=True)
class AxisCounts:
    """`{axis: {split: probes}}`."""

    by_axis: dict[str, dict[str, int]]


def check_probes(config: SearchConfig) -> tuple[list[Finding], AxisCounts]:
    """Probe files and general prompts, and how many probes there are of each axis and split."""
    loaded: list[ProbeSet] = []

    def probes() -> str:
        loaded.append(load_probes(config))
        if not loaded[0].split("search").probes:
            raise BadInput(f"{config.probes.path} has no search probes; write more of them")
        return f"{len(loaded[0])} in {config.probes.path}"

    def general() -> str:
        prompts = load_general(config)
        if prompts is None:
            return "off: damage that no probe asks about is not seen"
        return f"{len(prompts.search)} and {len(prompts.heldout)}, {config.probes.retention}"

    found = [_found("probes", probes), _found("general prompts", general)]
    counts: dict[str, dict[str, int]] = {}
    for part in loaded:
        tally = Counter((probe.axis, probe.split) for probe in part)
        counts = {
            axis: {split: tally[axis, split] for split in ("search", "validation", "heldout")}
            for axis in AXES
            if any(a == axis for a, _ in tally)
        }
    return found, AxisCounts(counts)


def _checkpoint(stored: Checkpoint) -> str:
    entries = Counter[str]()
    for info in stored.tensors.values():
        entries[str(info.dtype).removeprefix("torch.")] += info.nbytes
    (dtype, _), *_ = entries.most_common(1)
    names: Sequence[str] = stored.config.get("architectures") or ["no architecture named"]
    return f"{names[0]}, {dtype}, {gigabytes(entries.total())}"


def _found(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, check())
    except SafemergeError as error:
        return Finding(what, str(error), well=False)
