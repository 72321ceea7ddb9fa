"""What a run was started with: recorded once, and compared before anything goes on."""

from __future__ import annotations

import hashlib
import logging
import platform
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

import safemerge
from safemerge.errors import ConfigError, OutputError, RunError
from search.config import SearchConfig
from search.metrics import IN_NATS, Limits, ReferenceScores, upper_end
from search.runs.retention import GeneralFiles, with_retention, write_answers
from search.runs.rundir import BASELINE, RunDir
from search.runs.workbench import Workbench
from synth.progress import Report, silent

log = logging.getLogger(__name__)

# Keys that may differ when a run goes on: they change no trial that is finished.
MAY_CHANGE = frozenset(
    {"search.trials", "search.failed_frac", "search.workers", "search.calibrate"}
    | {"search.answered", "probes.unreadable_frac", "probes.heldout_judge", "probes.grader"}
    | {"probes.judge_key"}
)
MAY_CHANGE_IN = ("search.stop.", "engine.", "fusion.")


def check_same(home: RunDir, config: SearchConfig) -> None:
    """Refuse a configuration that differs from the run's in what decides its trials."""
    if not (home.path / "config.toml").exists():
        return
    recorded = SearchConfig.from_toml(home.path / "config.toml", of_run=True)
    before, now = _flat(recorded.record()), _flat(config.record())
    differ = [
        key
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
        and key not in MAY_CHANGE
        and not key.startswith(MAY_CHANGE_IN)
    ]
    if differ:
        first, *others = differ
        was, is_ = (repr(flat[first]) if first in flat else "not set" for flat in (before, now))
        more = f" (also different: {', '.join(others)})" if others else ""
        raise RunError(
            f"{home.path} was started with {first} = {was}, and now it is {is_}{more}; restore "
            "it, or start a new run with --run NAME"
        )


def check_fresh(folder: Path) -> None:
    """Refuse to begin a run in a folder of other things than probes and hidden files."""
    if not folder.exists() or (folder / "config.toml").exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file, not a run directory; name another with --run")
    strange = sorted(
        path.name for path in folder.iterdir() if not path.name.startswith((".", "probes.jsonl"))
    )
    if strange:
        raise OutputError(
            f"{folder} is not empty and not a run (it holds {strange[0]!r}); choose another folder "
            "with --run"
        )


def measure_baseline(
    home: RunDir, bench: Workbench, general: GeneralFiles, report: Report = silent
) -> ReferenceScores:
    """Scores of base and sources on search probes and general prompts: recorded, else of now."""
    baseline = home.load(BASELINE, ReferenceScores)
    if baseline is not None:
        return baseline
    return with_retention(bench.baseline(report), bench, general)


def check_limits(config: SearchConfig, baseline: ReferenceScores) -> None:
    """Refuse a limit that no recipe can be within, as a ConfigError."""
    limits = Limits(config.limits, baseline)
    for metric, limit in config.limits.items():
        bound = limits.bound(metric)
        if bound > upper_end(metric) if limit.at_least is not None else bound < 0.0:
            where = "are at least 0" if metric in IN_NATS else "lie in [0, 1]"
            raise ConfigError(
                f"limits.{metric} {limit.text} is {bound:.3f} on these probes, and scores {where}: "
                "no recipe can be within it; loosen it"
            )


def record_start(
    home: RunDir,
    config: SearchConfig,
    bench: Workbench,
    baseline: ReferenceScores,
    general: GeneralFiles,
) -> None:
    """Record config, versions, input hashes, answers to general prompts, and baseline.

    A RunError where a model, the probes or the judge are others than when the run began.
    """
    import optuna
    import torch
    import transformers

    modules = (safemerge, torch, transformers, optuna)
    versions = {"python": platform.python_version()}
    versions |= {module.__name__: module.__version__ for module in modules}
    record = {
        "inputs": bench.inputs.contents(),
        "probes": bench.probes.content_hash,
        "general": None if bench.general is None else bench.general.content_hash,
        "judge": bench.judge.fingerprint(),
        "template": bench.engine.template.fingerprint(),
        "versions": versions,
        "device": config.engine.device,
        "seed": config.seed,
        "study": _study_name(home, config),
    }
    lock = home.read("lock.json")
    before, now = _contents(lock or record), _contents(record)
    if lock is not None and "template" not in lock:
        now.pop("the chat template")  # a run of before it was recorded
    for name, digest in now.items():
        if before.get(name) != digest:
            raise RunError(
                f"{home.path} was started with other content of {name} "
                f"(hash {before.get(name, 'none')[:12]}, now {digest[:12]}); restore it, or "
                "start a new run with --run NAME"
            )
    if lock is not None:
        say_other_versions(home, lock["versions"], versions)
    home.write_text("config.toml", tomli_w.dumps(config.record()))
    if lock is None:
        home.write("lock.json", record)
    for file, answers in general.items():
        if not (home.path / file).exists():
            write_answers(home, file, answers)
    if home.read(BASELINE) is None:
        home.write(BASELINE, baseline)


def say_other_versions(home: RunDir, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """A warning, no more: a run of weeks outlives its libraries, and its trials stay comparable to
    a few digits. What an earlier version has not recorded is not compared."""
    differ = [
        f"{name} {before[name]} (now {version})"
        for name, version in now.items()
        if before.get(name, version) != version
    ]
    if differ:
        log.warning(
            "%s was started with %s: scores of new trials may differ a little from those of "
            "earlier ones; for exact ones install those versions, or start a new run",
            home.path,
            ", ".join(differ),
        )


def _contents(lock: Mapping[str, Any]) -> dict[str, str]:
    """`{name: hash}` of all that must stay the same."""
    judge = hashlib.sha256(lock["judge"].encode("utf-8")).hexdigest()
    contents = {**lock["inputs"], "the probes": lock["probes"], "the judge": judge}
    # Not there in runs of earlier versions.
    later = {"the chat template": lock.get("template"), "the general prompts": lock.get("general")}
    return contents | {name: digest for name, digest in later.items() if digest is not None}


def _study_name(home: RunDir, config: SearchConfig) -> str:
    if config.search.storage == "journal":
        return "search"
    # A database may hold the studies of many runs.
    return f"{home.path.resolve().name} {uuid.uuid4().hex[:12]}"


def _flat(record: object, prefix: str = "") -> dict[str, object]:
    """`{"a.b": value}` of a nested record; tables in a list by their names, other lists whole."""
    if isinstance(record, list) and record and all(isinstance(entry, dict) for entry in record):
        record = {entry.get("name", str(i)): entry for i, entry in enumerate(record)}
    if not isinstance(record, dict):
        return {prefix: record}
    flat: dict[str, object] = {}
    for key, value in record.items():
        flat.update(_flat(value, f"{prefix}.{key}" if prefix else key))
    return flat
