"""Build, tune and export the mixture that a config describes; resumable.

Its folder holds `settings.json` (what decides the mixture), `experts/` (sources that were tuned
here), `checkpoints/` while it is trained, and `fusion.json` when it is done.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from safemerge.errors import BadInput, ConfigError, OutputError, RunError
from safemerge.fusion.export import export_model
from safemerge.fusion.mixture import MixturePlan, build_mixture
from safemerge.fusion.training import Schedule
from safemerge.fusion.tuning import FusionLoss, tune_mixture
from safemerge.inputs import Inputs, open_inputs
from safemerge.io import check_output, is_finite
from safemerge.recipe import Recipe
from search.config import FusionConfig, SearchConfig
from search.config.fusion import SEARCHED
from search.doctor.estimate import gigabytes
from search.doctor.fusion_memory import FusionMemory, fusion_memory
from search.doctor.machine import this_machine, used_by_process
from search.fusion.alignment import tuned_experts
from search.fusion.card import fusion_card
from search.fusion.checks import check_fusion
from search.fusion.examples import probe_examples
from search.fusion.record import Tuned
from search.runs.rundir import RunDir
from search.runs.workbench import recipe_template
from synth.engines.loading import load_tokenizer, quiet
from synth.engines.template import open_template
from synth.probes.probe import ProbeSet
from synth.progress import Report, silent

_SETTINGS, _DONE, _CHECKPOINTS = "settings.json", "fusion.json", "checkpoints"
_MAY_CHANGE = frozenset({"recompute", "save_steps"})  # keys that change no number of the mixture
_ERROR = 0.75  # of the memory that is reckoned, the least that is then needed


def tuned_mixture(
    config: SearchConfig,
    home: RunDir,
    probes: ProbeSet,
    out: Path,
    *,
    pick: Recipe | None = None,
    report: Report = silent,
    foretell: Callable[[str], None] = lambda text: None,
) -> Tuned:
    """Train the mixture of a config on its search probes and write it, or go on with that.

    Args:
        config: with absolute paths.
        home: where its run is kept.
        probes: all of them; the search probes alone are learned from.
        out: folder of the checkpoint.
        pick: of a search, which may be the anchor.
        foretell: told how much memory it will take, before it is taken.

    Raises:
        BadInput: what is wrong with config, models or probes, too little memory, or an output
            folder that is not empty.
        RunError: the run was started with other settings.
        TrainingFailed: the training broke down.
    """
    section = check_fusion(config, probes)
    sources = [source.name for source in config.models.sources]
    learned = probes.split("search")
    inputs = open_inputs(recipe_template(config))
    anchor = _anchor(section, pick)
    template = open_template(load_tokenizer(inputs.base.folder), config.models.chat)
    settings = {
        "fusion": section.model_dump(mode="json", exclude=set(_MAY_CHANGE)),
        "anchor": anchor if isinstance(anchor, str) else anchor.model_dump(mode="json"),
        "inputs": inputs.contents(),
        "probes": learned.content_hash,
        "alignment": {name: _sha256(path) for name, path in section.alignment.items()},
        "template": template.fingerprint(),
        "dtype": config.merge.dtype,
        "seed": config.seed,
    }
    _check_same(home, settings)
    done = home.load(_DONE, Tuned)
    if done is not None and Path(done.folder, "config.json").exists():
        if Path(done.folder) != out.absolute():
            raise RunError(f"the mixture of {home.path} is finished and lies in {done.folder}")
        return done
    check_output(out)
    experts = {axis: sources.index(source) for axis, source in section.experts.items()}
    limit = inputs.base.config.get("max_position_embeddings")
    examples = probe_examples(template, learned.probes, experts, limit)
    memory = fusion_memory(inputs, examples, section, used_by_process())
    foretell(f"memory  about {gigabytes(memory.total)} to tune the mixture")
    _check_memory(memory, config, home)
    home.write(_SETTINGS, settings)
    schedule = Schedule(
        steps=section.steps,
        batch=section.batch,
        lr=section.lr,
        seed=config.seed,
        precision=section.precision,
        recompute=section.recompute,
        save_steps=section.save_steps,
    )
    if section.alignment:
        config = tuned_experts(config, section.alignment, schedule, home.path, report)
        inputs = open_inputs(recipe_template(config))
    report("fusion tuning", 0, section.steps, "building the mixture")

    def told(step: int, steps: int, loss: float) -> None:
        report("fusion tuning", step, steps, f"loss {loss:.3f}")

    with quiet():
        plan = MixturePlan(section.top_k, anchor, config.seed)
        model = build_mixture(inputs, plan).to(config.engine.device)
        terms = FusionLoss(
            section.gating, section.gammas(sources), section.regulariser, section.balance
        )
        losses = tune_mixture(model, examples, terms, schedule, home.path / _CHECKPOINTS, told)
        tuned = Tuned(folder=str(out.absolute()), settings=settings, losses=losses)
        _round(model, inputs, config)
        export_model(model, inputs.base, out, fusion_card(tuned, config))
    home.write(_DONE, tuned)
    shutil.rmtree(home.path / _CHECKPOINTS, ignore_errors=True)
    return tuned


def check_fresh_mixture(home: Path) -> None:
    """Refuse to begin in a folder of other things."""
    if not home.exists() or (home / _SETTINGS).exists():
        return
    if not home.is_dir():
        raise OutputError(f"{home} is a file, not a folder; name another with --run")
    strange = sorted(path.name for path in home.iterdir() if not path.name.startswith("."))
    if strange:
        raise OutputError(
            f"{home} is not empty and holds no mixture (but {strange[0]!r}); choose another folder "
            "with --run"
        )


def _anchor(section: FusionConfig, pick: Recipe | None) -> str | Recipe:
    if section.anchor == SEARCHED:
        if pick is None:
            raise ConfigError(
                f"fusion.anchor is {SEARCHED!r}, which is the pick of the search that the mixture "
                "is a baseline of; name the recipe.json of a merge, or a model"
            )
        return pick
    is_file = section.anchor.endswith(".json")
    return Recipe.load(section.anchor) if is_file else section.anchor


def _sha256(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"fusion.alignment: {path} cannot be read ({error.strerror}); check its path"
        ) from error


def _check_same(home: RunDir, settings: Mapping[str, Any]) -> None:
    """Refuse settings that differ from those that the run was started with."""
    before = home.read(_SETTINGS)
    if before is None:
        return
    for name, value in settings.items():
        was, now = before.get(name), value
        if was == now:
            continue
        if isinstance(was, dict) and isinstance(now, dict):
            key = next(k for k in {**was, **now} if was.get(k) != now.get(k))
            name, was, now = f"{name}.{key}", was.get(key), now.get(key)
        raise RunError(
            f"{home.path} was started with {name} = {was!r:.60}, and now it is {now!r:.60}; "
            "restore it, or start a new run with --run NAME"
        )


def _check_memory(memory: FusionMemory, config: SearchConfig, home: RunDir) -> None:
    """Refuse a mixture that surely does not fit, with the batch that would."""
    machine = this_machine(config.engine.device, home.path, home.path)
    free = machine.host if config.engine.device == "cpu" else machine.device
    if free is None or (memory.total - memory.process) * _ERROR <= free:
        return
    batch = memory.batch_within(free)
    way = f"set fusion.batch = {batch}" if batch else "take fewer or smaller sources"
    raise BadInput(
        f"tuning the mixture takes {gigabytes(memory.total)} of memory and {gigabytes(free)} are "
        f"free; {way}, or fusion.recompute = true"
    )


def _round(model: Any, inputs: Inputs, config: SearchConfig) -> None:
    """To the type that is written: the config's, or the base's."""
    wanted = config.merge.dtype
    stored = next(inputs.base.tensors[name].dtype for name in inputs.merged_names)
    model.to(stored if wanted is None else getattr(torch, wanted))
    for name, parameter in model.named_parameters():
        if not is_finite(parameter):
            raise BadInput(
                f"the tuned tensor {name!r} has values that {wanted or stored} cannot hold; set "
                'merge.dtype = "bfloat16"'
            )
