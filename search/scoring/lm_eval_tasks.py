"""Tasks of lm-eval (Gao et al. 2021, EleutherAI) on a live model, with its chat template."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safemerge.errors import BadInput, MissingDependency, near_names, require

GROUPS: Mapping[str, tuple[str, ...]] = {
    "domain": (),
    "knowledge": ("mmlu", "arc_challenge"),
    "honesty": ("truthfulqa_mc1", "truthfulqa_mc2"),
    "instructions": ("ifeval",),
}
"""Tasks of a group that is named without any; a domain's are the user's to choose."""

_LEAST, _BELOW = (0, 4, 9), (0, 5, 0)  # whose calls are those below


@dataclass(frozen=True, slots=True)
class TaskScore:
    """One metric of one task, as lm-eval gives it.

    Args:
        group: as asked.
        task: of lm-eval; of a group of tasks that has no score of its own, each of its tasks.
        metric: with its filter, such as "acc,none".
        value: in the metric's own unit.
        stderr: its standard error; None where lm-eval has none.
        n: items.
    """

    group: str
    task: str
    metric: str
    value: float
    stderr: float | None
    n: int


def parse_groups(asked: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """`{group: tasks}` of GROUP, with its own tasks, or GROUP=TASK,TASK; one at least.

    Raises:
        BadInput: an unknown group, or one without tasks.
    """
    groups: dict[str, tuple[str, ...]] = {}
    for text in asked:
        name, _, given = text.partition("=")
        if name not in GROUPS:
            raise BadInput(f"there is no group of tasks {name!r}; {near_names(name, GROUPS)}")
        tasks = tuple(task.strip() for task in given.split(",") if task.strip()) or GROUPS[name]
        if not tasks:
            raise BadInput(
                f"the group {name!r} has no tasks of its own; name some: {name}=TASK,TASK"
            )
        groups[name] = tuple(dict.fromkeys((*groups.get(name, ()), *tasks)))
    return groups


def check_lm_eval() -> None:
    """Refuse where lm-eval is missing or of another version; need and have are named."""
    require("lm_eval", extra="lm-eval")
    have = version("lm_eval")
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", have)
    numbers = tuple(int(part or 0) for part in found.groups()) if found else ()
    if not _LEAST <= numbers < _BELOW:
        need = f"{'.'.join(map(str, _LEAST))} or a later 0.4"
        raise MissingDependency(
            f"this needs lm-eval {need}, and {have} is installed; install the one with: pip "
            'install "safemerge[lm-eval]"'
        )


def score_tasks(
    model: Any,
    tokenizer: Any,
    groups: Mapping[str, Sequence[str]],
    *,
    include: Path | None = None,
    limit: int | None = None,
) -> list[TaskScore]:
    """Run the tasks of every group on a live transformers model.

    Args:
        model: a transformers causal model.
        tokenizer: its own, with a chat template.
        groups: as `parse_groups` returns them.
        include: folder of task files (YAML) beside lm-eval's own.
        limit: most items of a task; None is all.

    Raises:
        MissingDependency: as `check_lm_eval`.
        BadInput: an unknown task, a model without a chat template, or data that cannot be had.
    """
    check_lm_eval()
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    if include is not None and not include.is_dir():
        raise BadInput(f"{include} is no folder; name one that holds task files (YAML)")
    if getattr(tokenizer, "chat_template", None) is None:
        raise BadInput(
            "the model has no chat template, and tasks are asked with one; put chat_template.jinja "
            "into its folder"
        )
    manager = TaskManager(include_path=None if include is None else str(include))
    known, names = set(manager.all_tasks), [*dict.fromkeys(t for ts in groups.values() for t in ts)]
    for name in names:
        if name not in known:
            raise BadInput(f"lm-eval has no task {name!r}; {_near(name, known)}")
    try:
        found = simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer),
            tasks=names,
            task_manager=manager,
            apply_chat_template=True,
            limit=limit,
            log_samples=False,
        )
    except (OSError, ImportError, ValueError, KeyError) as error:  # data, or a package of a task
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadInput(f"lm-eval cannot run {', '.join(names)}: {reason}") from error
    return [
        score
        for group, tasks in groups.items()
        for task in tasks
        for score in _scores(group, task, found)
    ]


def _near(name: str, known: Iterable[str]) -> str:
    near = near_names(name, known)
    return near if near.startswith("did you") else "lm-eval ls tasks lists them"


def _scores(group: str, task: str, found: Mapping[str, Any]) -> list[TaskScore]:
    """Of a task, or of what it consists of where it has no score of its own."""
    own = found["results"].get(task, {})
    parts = found.get("group_subtasks", {}).get(task, [])
    scores = []
    for key, value in own.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        error = own.get(f"{metric}_stderr,{filtered}")
        stderr = float(error) if isinstance(error, (int, float)) else None
        scores.append(TaskScore(group, task, key, float(value), stderr, _items(task, found)))
    return scores or [score for part in parts for score in _scores(group, part, found)]


def _items(task: str, found: Mapping[str, Any]) -> int:
    if task in found["n-samples"]:
        return int(found["n-samples"][task]["effective"])
    return sum(_items(part, found) for part in found.get("group_subtasks", {}).get(task, []))
