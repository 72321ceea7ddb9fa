"""What a real model of 135 M parameters writes as probes, and what is kept of it.

    python benchmarks/real/writing.py --out runs/real-writing [--engine vllm] [--reviewer none]
        [--own FOLDER] [--count 64]

The base writes, base and three experts answer, the judge is `trained`. Without --reviewer the base
reviews by rubric, and is examined first. With --own no question is written: FOLDER holds
domain.jsonl, harmless.jsonl, helpful.jsonl and honest.jsonl, one question a line, as `synth.real`
makes them (folder probes-*). What is kept lies in OUT to be read by hand. Adds a row to
results/real_writing.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

from safemerge.cache import cache_folder
from safemerge.errors import SafemergeError
from search.cli.tables import progress_bar
from search.commands.write_probes import write_probes
from search.config import SearchConfig
from synth.probes.probe import AXES
from synth.probes.stats import read_stats, rejected_path
from synth.real import build_real_ground

RESULTS = Path(__file__).resolve().parents[1] / "results" / "real_writing.json"
WRITERS = {"domain": "domain", "harmful": "base", "twin": "base", "unknowable": "base"}


def config(options: argparse.Namespace) -> SearchConfig:
    """What a user would write."""
    ground = build_real_ground(cache_folder() / "real")
    write: dict[str, Any] = {"writers": WRITERS, "counts": dict.fromkeys(AXES, options.count)}
    if options.reviewer:
        write["reviewer"] = options.reviewer
    if options.own:
        own = {axis: str((options.own / f"{axis}.jsonl").resolve()) for axis in AXES}
        write |= {"domain": {"questions": own.pop("domain")}, "questions": own}
    return SearchConfig.from_record(
        {
            "models": {
                "base": str(ground.base),
                "sources": [{"name": n, "path": str(p)} for n, p in ground.experts.items()],
            },
            "probes": {
                "path": str(options.out / "probes.jsonl"),
                "judge": "trained",
                "write": write,
            },
            "engine": {"kind": options.engine},
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for what is kept")
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument("--reviewer", help="as of probes.write.reviewer")
    parser.add_argument("--own", type=Path, help="folder of questions that are brought")
    parser.add_argument("--count", type=int, default=64, help="probes wanted of each axis")
    options = parser.parse_args()
    start, said = time.monotonic(), ""
    settings = config(options)
    try:
        with progress_bar() as report:
            write_probes(settings, report=report)
    except SafemergeError as error:
        said = str(error)
    path = Path(settings.probes.path)
    stats = read_stats(path) if path.exists() or rejected_path(path).exists() else ()
    row = {
        "engine": options.engine,
        "reviewer": options.reviewer,
        "own": options.own is not None,
        "count": options.count,
        "seconds": round(time.monotonic() - start),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "said": said,
        "axes": [one.model_dump(exclude={"categories"}) for one in stats],
    }
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    same = ("engine", "reviewer", "own", "count")
    rows = [old for old in rows if any(old[key] != row[key] for key in same)]
    RESULTS.write_text(json.dumps([*rows, row], indent=1, sort_keys=True) + "\n")
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
