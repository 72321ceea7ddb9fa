"""Tasks of lm-eval on a checkpoint, or on the merge that a recipe describes, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safemerge.cache import tensor_store
from safemerge.devices import check_device
from safemerge.live import stored_views
from safemerge.recipe import Recipe
from safemerge.resident import ResidentMerge
from search.scoring.lm_eval_tasks import TaskScore, check_lm_eval, parse_groups, score_tasks
from synth.engines.transformers import TransformersEngine


def measure_tasks(
    model: str,
    asked: Sequence[str],
    *,
    include: Path | None = None,
    limit: int | None = None,
    device: str = "cpu",
) -> list[TaskScore]:
    """Score a model on groups of tasks.

    Args:
        model: a folder, a hub id, or a recipe (.json), which is merged into its base in memory.
        asked: as `parse_groups` takes them.
        include: folder of task files beside lm-eval's own.
        limit: most items of a task.
        device: of model and merge.

    Raises:
        BadInput: as `score_tasks`, and what opening a model or a recipe raises.
    """
    groups = parse_groups(asked)
    check_lm_eval()
    check_device(device)
    recipe = Recipe.load(model) if model.endswith(".json") else None
    engine = TransformersEngine(model if recipe is None else recipe.base.path, device=device)
    if recipe is not None:
        resident = ResidentMerge(recipe, device=device, store=tensor_store())
        resident.apply(recipe, stored_views(engine.model, resident.names))
    return score_tasks(engine.model, engine.tokenizer, groups, include=include, limit=limit)
