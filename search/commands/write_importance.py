"""Write the importance file of one source of a config, from probes of that source's domain."""

from __future__ import annotations

from pathlib import Path

import torch

from safemerge.devices import check_device
from safemerge.errors import ConfigError, ProbeError, near_names
from safemerge.writable import check_writable
from search.config import SearchConfig
from search.runs.probe_sets import heldout_prompts
from search.runs.workbench import recipe_template
from synth import importance
from synth.engines.transformers import TransformersEngine
from synth.probes.probe import ProbeSet
from synth.progress import Report, silent
from synth.text.normalise import normalise


def write_importance(
    config: SearchConfig,
    source: str,
    probes: Path,
    *,
    most: int = 64,
    report: Report = silent,
) -> tuple[Path, int]:
    """Take gradients on a source's probes and write the file that the config names for it.

    Args:
        probes: JSON Lines of the source's domain; held-out probes are skipped.
        most: probes that are used, evenly spread over the file, at least 1.

    Returns:
        The file, and how many probes it was made from.

    Raises:
        ConfigError: the config has no such source, or no file for it.
        ProbeError: there are no probes but held-out ones, or the file is damaged.
    """
    files = {model.name: model.importance for model in config.models.sources}
    if source not in files:
        raise ConfigError(f"the config has no source {source!r}; {near_names(source, files)}")
    out = files[source]
    if out is None:
        raise ConfigError(
            f"the config names no importance file for source {source!r}; add "
            f'importance = "{source}.importance.safetensors" to its [[models.sources]]'
        )
    check_device(config.engine.device)
    check_writable(Path(out).parent)
    held = heldout_prompts(config)
    usable = [
        probe
        for probe in ProbeSet.from_jsonl(probes)
        if probe.split != "heldout" and normalise(probe.prompt) not in held
    ]
    if not usable:
        raise ProbeError(f"all probes of {probes} are held out; give probes that may be used")
    count = min(most, len(usable))
    chosen = [usable[i * len(usable) // count] for i in range(count)]
    importance.write_importance(
        TransformersEngine(
            config.models.base,
            device=config.engine.device,
            dtype=torch.float32,
            chat=config.models.chat,
        ),
        recipe_template(config),
        source,
        [(probe.prompt, probe.answer) for probe in chosen],
        out,
        progress=lambda done, total: report(f"importance: {source}", done, total, ""),
    )
    return Path(out), count
