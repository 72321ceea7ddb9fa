"""Small worlds for the benchmarks of the search: models, probes and a run's configuration, kept."""

from __future__ import annotations

from pathlib import Path

from search.commands.demo import demo_config
from search.commands.write_probes import write_probes
from search.config import SearchConfig
from synth.probes.probe import AXES
from synth.zoo import ZooSpec, build_zoo
from synth.zoo.world import World


def small_world(runs: Path, seed: int, per_axis: int) -> SearchConfig:
    """The demo's configuration on a world of its own, with its models and probes in place.

    Args:
        runs: folder of the benchmark; models go into `runs/zoo`, probes into `runs/SEED`.
        seed: of the world, its probes and the search.
        per_axis: probes written for each axis.
    """
    runs = runs.absolute()
    home = runs / str(seed)
    home.mkdir(parents=True, exist_ok=True)
    zoo = build_zoo(runs / "zoo", ZooSpec(seed=seed))
    config = demo_config(zoo, home, seed=seed, device="cpu", trials=60)
    record = config.record()
    record["probes"]["path"] = str(home / f"probes-{per_axis}.jsonl")
    record["probes"]["write"]["counts"] = dict.fromkeys(AXES, per_axis)
    config = SearchConfig.from_record(record)
    if not Path(config.probes.path).exists():
        write_probes(config, terms=World(zoo.seed).terms)
    return config
