"""The study of a baseline: the search's storage and workers, with nothing else of the search."""

from __future__ import annotations

from typing import Any

from search.config import StopConfig, StudyConfig, WarmStartConfig


def plain_study(study: StudyConfig, trials: int, sampler: str, **changes: Any) -> StudyConfig:
    """The same storage and workers, with nothing to start from, no stop rule, and `changes`."""
    return study.model_copy(
        update={
            "sampler": sampler,
            "sampler_options": {},
            "start_from": None,
            "stop": StopConfig(),
            "trials": trials,
            "warm_start": WarmStartConfig(steps=0),
            **changes,
        }
    )
