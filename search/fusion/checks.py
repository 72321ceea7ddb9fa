"""What can be said of a mixture before a model is opened."""

from __future__ import annotations

from safemerge.errors import ConfigError, ProbeError
from search.config import FusionConfig, SearchConfig
from synth.probes.probe import ProbeSet


def check_fusion(config: SearchConfig, probes: ProbeSet) -> FusionConfig:
    """The section of a config, after all that can be said without opening a model."""
    section = config.fusion
    if section is None:
        raise ConfigError("the config has no [fusion] section; `safemerge init` shows one")
    names = [source.name for source in config.models.sources]
    if len(names) < 2:
        raise ConfigError(
            f"a mixture needs at least two sources, and there is {len(names)}; add one to [models]"
        )
    if section.top_k > len(names):
        raise ConfigError(
            f"fusion.top_k is {section.top_k} of {len(names)} experts; the range is 1 to "
            f"{len(names)}"
        )
    for name in names:
        if section.gating and name not in section.experts.values():
            raise ConfigError(
                f"fusion.experts names no axis for the source {name!r}, so that the router would "
                'learn never to use it; write, for example, experts = { domain = "medic" }, or '
                "set fusion.gating = 0"
            )
    axes = {probe.axis for probe in probes.split("search").probes}
    for axis, source in section.experts.items():
        if axis not in axes:
            raise ProbeError(
                f"{config.probes.path} has no search probes of {axis}, for which the expert "
                f"{source!r} stands; write some with `safemerge probes`, or take another axis"
            )
    return section
