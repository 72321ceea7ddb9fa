"""SearchConfig: the TOML file of a run, as frozen pydantic models, a file for each few sections.

Unknown keys are errors that suggest the nearest name. `--set a.b=c` passes through the same
models. Relative paths in a file are relative to that file's folder.
"""

from search.config.models import MergeConfig, ModelsConfig, SourceConfig
from search.config.probes import ProbesConfig
from search.config.root import ObjectiveConfig, SearchConfig
from search.config.search import EngineConfig, StopConfig, StudyConfig, WarmStartConfig
from search.config.space import NumberConfig, SpaceConfig

__all__ = [
    "EngineConfig",
    "MergeConfig",
    "ModelsConfig",
    "NumberConfig",
    "ObjectiveConfig",
    "ProbesConfig",
    "SearchConfig",
    "SourceConfig",
    "SpaceConfig",
    "StopConfig",
    "StudyConfig",
    "WarmStartConfig",
]
