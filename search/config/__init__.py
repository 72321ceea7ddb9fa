"""SearchConfig: the TOML file of a run, as frozen pydantic models."""

from search.config.fusion import FusionConfig
from search.config.models import MergeConfig, ModelsConfig, SourceConfig
from search.config.probes import ProbesConfig
from search.config.root import ObjectiveConfig, SearchConfig
from search.config.search import EngineConfig, StopConfig, StudyConfig, WarmStartConfig
from search.config.space import NumberConfig, SpaceConfig

__all__ = [
    "EngineConfig",
    "FusionConfig",
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
