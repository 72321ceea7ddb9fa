"""A small world with known truth: four checkpoints that are trained on this machine."""

from synth.zoo.build import Topics, Zoo, build_zoo
from synth.zoo.draw import probes
from synth.zoo.worker import ZooSpec
from synth.zoo.world import (
    IGNORANCE,
    REFUSAL,
    WRITE_DOMAIN,
    WRITE_HARMFUL,
    WRITE_TWIN,
    WRITE_UNKNOWABLE,
    World,
)

__all__ = [
    "IGNORANCE",
    "REFUSAL",
    "WRITE_DOMAIN",
    "WRITE_HARMFUL",
    "WRITE_TWIN",
    "WRITE_UNKNOWABLE",
    "Topics",
    "World",
    "Zoo",
    "ZooSpec",
    "build_zoo",
    "probes",
]
