"""What each piece of merge machinery is worth: the same merge with it and without, in alternation.

    python benchmarks/machinery.py --repeats 5 --out benchmarks/results/machinery.json

Models and recipes are those of merge_vs_mergekit.py, 0.34 B parameters; every run is a whole
process of `safemerge merge`. A ratio is the time without the piece over the time with it, repeat by
repeat. `machinery.py without PIECE merge FILE --out DIR` is the process without a piece.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measure import Usage, machine, run_measured, write_json
from merge_vs_mergekit import line, ratio_line, ratios, recipes

HERE = Path(__file__).parent
WITH = "all machinery"
# Method that is merged -> what is taken away from it.
TAKEN = {
    "task_arithmetic": ("direct writes", "kept heap", "rare garbage collection"),
    "ties": ("direct writes", "kept heap", "threshold: partition", "threshold: kthvalue"),
}


def take_away(piece: str) -> None:
    """Put the plain form in place of a piece, in this process, before anything is merged."""
    if piece == "rare garbage collection":
        import atexit
        import gc

        gc.set_threshold = lambda *_: None  # type: ignore[assignment]
        freeze, register = gc.freeze, atexit.register
        atexit.register = lambda f, *a, **k: f if f is freeze else register(f, *a, **k)  # type: ignore[assignment]
    elif piece == "kept heap":
        import safemerge.merging

        safemerge.merging.kept_heap = contextlib.nullcontext  # type: ignore[assignment]
    elif piece == "direct writes":
        import os

        del os.O_DIRECT  # as on a system that has none: through the cache, flushed at once
    elif piece.startswith("threshold: "):
        for method in _users_of_thresholds():
            method.magnitude_at = PLAIN[piece.removeprefix("threshold: ")]
    elif piece != WITH:
        raise SystemExit(f"unknown piece {piece!r}")


def by_partition(values: Any, positions: Sequence[int]) -> list[float]:
    """Order statistics of |values| by numpy."""
    import numpy as np

    ordered = np.partition(np.abs(values.reshape(-1).numpy()), sorted(set(positions)))
    return [float(ordered[position]) for position in positions]


def by_kthvalue(values: Any, positions: Sequence[int]) -> list[float]:
    """Order statistics of |values| by torch."""
    flat = values.abs().reshape(-1)
    return [flat.kthvalue(position + 1).values.item() for position in positions]


PLAIN: dict[str, Callable[[Any, Sequence[int]], list[float]]] = {
    "partition": by_partition,
    "kthvalue": by_kthvalue,
}


def _users_of_thresholds() -> list[Any]:
    from safemerge.methods import breadcrumbs, sce, ties

    return [breadcrumbs, sce, ties]


def compare(method: str, models: Path, repeats: int) -> dict[str, Any]:
    """Merge by a method with everything and without each piece, as often as asked."""
    file = models / f"{method}.yml"  # JSON is YAML too
    file.write_text(json.dumps(recipes(models)[method], indent=1), encoding="utf-8")
    out = models / "merged"
    pieces = (WITH, *TAKEN[method])
    runs: dict[str, list[Usage]] = {piece: [] for piece in pieces}
    for repeat in range(repeats):
        for piece in pieces if repeat % 2 == 0 else pieces[::-1]:
            shutil.rmtree(out, ignore_errors=True)
            command = [sys.executable, __file__, "without", piece, "merge", file, "--out", out]
            runs[piece].append(run_measured(command))
            print(f"{method:16s} {piece:24s} {line(runs[piece][-1])}", flush=True)
    shutil.rmtree(out, ignore_errors=True)
    found: dict[str, Any] = {"runs": {p: [asdict(run) for run in runs[p]] for p in pieces}}
    found["ratio"] = {piece: ratios(runs[piece], runs[WITH]) for piece in TAKEN[method]}
    for piece, ratio in found["ratio"].items():
        print(f"{method:16s} {piece:24s} {ratio_line(ratio)}", flush=True)
    return found


def main() -> None:
    """Make the models, measure, print and write; or be one process without a piece."""
    if sys.argv[1:2] == ["without"]:
        _, _, piece, *arguments = sys.argv
        take_away(piece)
        from search.cli.app import main as safemerge

        sys.argv = ["safemerge", *arguments]
        safemerge()
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=Path("runs/benchmark-models"))
    parser.add_argument("--size", default="350m", help="tiny or 350m")
    parser.add_argument("--methods", nargs="+", default=list(TAKEN), choices=TAKEN)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    models = args.models.resolve() / args.size
    subprocess.run(
        [sys.executable, HERE / "random_models.py", models, "--size", args.size], check=True
    )
    record = {"machine": machine(), "size": args.size}
    record["methods"] = {m: compare(m, models, args.repeats) for m in args.methods}
    write_json(args.out, record)


if __name__ == "__main__":
    main()
