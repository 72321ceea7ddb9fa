"""Whether a merge stays within the memory that `--dry-run` states, for every method.

    python benchmarks/peak_memory.py --shapes 1536x1536 1024x3072 3072x1024

Makes a base and three sources that hold nothing but a few matrices of one shape, and merges them in
a process of its own for each method. Stated is what `plan` says there beforehand, measured the
largest resident set (VmHWM, Linux only). Exit code 1 where a merge took more than was stated. Small
matrices show nothing: the stated memory has 64 MiB for what is not tensors.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from measure import machine, write_json
from safetensors.torch import save_file

from safemerge import ModelRef, Recipe
from safemerge.io import save_importance
from safemerge.methods import METHODS, Method
from safemerge.methods.common.importance_order import positions

SOURCES = ("a", "b", "c")
# In the child, as the dry run of the command: what is imported by then is held already.
_CHILD = """
import json, re, sys
from pathlib import Path
from safemerge.merging import merge, plan
from safemerge.recipe import Recipe
recipe = Recipe.load(Path(sys.argv[1]))
stated = plan(recipe, sys.argv[2]).peak_bytes
merge(recipe, sys.argv[2])
status = Path("/proc/self/status").read_text()
measured = int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) * 1024
print(json.dumps({"stated": stated, "measured": measured}))
"""


def write_models(folder: Path, shape: tuple[int, int], tensors: int) -> None:
    """A base and sources of random matrices in bfloat16, and their importance files."""
    random = torch.Generator().manual_seed(0)
    names = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(tensors)]
    base = {name: 0.02 * torch.randn(shape, generator=random) for name in names}
    for model in ("base", *SOURCES):
        (folder / model).mkdir(parents=True)
        (folder / model / "config.json").write_text("{}", encoding="utf-8")
        size = 0.0 if model == "base" else 0.002
        own = {n: t + size * torch.randn(shape, generator=random) for n, t in base.items()}
        save_file({n: t.bfloat16() for n, t in own.items()}, folder / model / "model.safetensors")
        save_importance(
            folder / f"{model}.importance", {n: positions(t.abs()) for n, t in own.items()}
        )


def recipe(folder: Path, method: Method) -> Recipe:
    """All sources that the method takes, at its defaults; parameters without one name a source."""
    names = SOURCES[: method.most_sources]
    fields = method.params.model_fields
    return Recipe(
        base=ModelRef(name="base", path=str(folder / "base")),
        sources=tuple(
            ModelRef(
                name=name,
                path=str(folder / name),
                importance=str(folder / f"{name}.importance") if method.needs_importance else None,
            )
            for name in names
        ),
        method=method.name,
        params={name: names[0] for name, field in fields.items() if field.is_required()},
        weights={"default": dict.fromkeys(names, 0.4)},
    )


def peak(folder: Path, method: Method) -> dict[str, int]:
    """Bytes that are stated and measured for one method: `{"stated": ..., "measured": ...}`."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        file = Path(scratch) / "recipe.json"
        recipe(folder, method).save(file)
        command = [sys.executable, "-c", _CHILD, str(file), str(Path(scratch) / "out")]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def compare(methods: Sequence[str], shapes: Sequence[str], tensors: int) -> dict[str, Any]:
    """`{shape: {method: what `peak` returns}}`, printed as it comes."""
    found: dict[str, Any] = {}
    for shape in shapes:
        out, into = map(int, shape.split("x"))
        found[shape] = {}
        with tempfile.TemporaryDirectory() as name:
            write_models(Path(name), (out, into), tensors)
            for method in methods:
                both = found[shape][method] = peak(Path(name), METHODS[method])
                stated, measured = (both[key] / 2**20 for key in ("stated", "measured"))
                mark = "" if measured <= stated else "  MORE THAN STATED"
                print(
                    f"{shape:10s} {method:16s} {measured:6.0f} of {stated:6.0f} MiB{mark}",
                    flush=True,
                )
    return found


def main() -> None:
    """Measure, print, write, and fail where a statement does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--shapes", nargs="+", default=["1536x1536", "1024x3072", "3072x1024"])
    parser.add_argument("--tensors", type=int, default=1, help="matrices of that shape")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    found = compare(args.methods, args.shapes, args.tensors)
    write_json(args.out, {"machine": machine(), "tensors": args.tensors, "peaks": found})
    rows = [row for by_method in found.values() for row in by_method.values()]
    if any(row["measured"] > row["stated"] for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
