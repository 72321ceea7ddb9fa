"""What a search takes of memory and time, phase by phase, for every way to hold its inputs.

    python benchmarks/fit.py --size 1.1b --models FOLDER --out RESULT.json

Builds a Llama of random weights and three sources, whole models and LoRA adapters (on disk, once),
and measures in a process of its own for each kind of source, method and `memory`: preparing the
merge, applying a recipe, a scored trial, and a forward and backward pass of the warm start; and a
merge to disk. Peaks are of each phase by itself: the largest resident set (Linux), mapped pages
included, and on a GPU what torch has reserved there. `--size 8b` is for a GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from measure import machine, write_json

MEMORIES = ("device", "host", "disk")
METHODS = ("task_arithmetic", "resm")
KINDS = ("full", "lora")
RANK_RATIO = 0.1  # of resm, and its rank limit: no full SVD of large matrices
LORA_RANK = 16
ROWS, TOKENS = 16, 64  # of the batch that is scored
_WARM_ROWS = 4


def write_adapters(folder: Path, size: Any, rank: int = LORA_RANK) -> None:
    """LoRA adapters of all projections beside the whole sources, as `lora-a`, ...; random."""
    import torch
    from random_models import SOURCES, shapes
    from safetensors.torch import save_file

    for index, source in enumerate(SOURCES):
        out = folder / f"lora-{source}"
        if out.exists():
            continue
        out.mkdir()
        random = torch.Generator().manual_seed(index)
        factors = {}
        for name, shape in shapes(size).items():
            if "_proj" in name:
                at = f"base_model.model.{name.removesuffix('.weight')}"
                factors[f"{at}.lora_A.weight"] = 0.02 * torch.randn(
                    rank, shape[1], generator=random
                )
                factors[f"{at}.lora_B.weight"] = 0.02 * torch.randn(
                    shape[0], rank, generator=random
                )
        save_file(factors, out / "adapter_model.safetensors")
        projections = [f"{p}_proj" for p in ("q", "k", "v", "o", "gate", "up", "down")]
        config = {
            "peft_type": "LORA",
            "r": rank,
            "lora_alpha": 2 * rank,
            "target_modules": projections,
        }
        (out / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def measure_case(folder: Path, kind: str, method: str, memory: str, device: str) -> dict[str, Any]:
    """`{phase: {"s", "peak_mib", "device_mib"}}` of one case, in this process."""
    import re
    import time
    from tempfile import TemporaryDirectory

    import torch
    from random_models import SOURCES

    from safemerge import ModelRef, Recipe, ResidentMerge, merge
    from safemerge.live import LiveGradient, stored_views
    from safemerge.store import TensorStore
    from synth.engines.loading import load_model
    from synth.engines.output_matrix import keep_input_compact

    on_gpu = torch.device(device).type == "cuda"
    found: dict[str, Any] = {}

    def phase(name: str, work: Any) -> Any:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        begin = time.perf_counter()
        result = work()
        if on_gpu:
            torch.cuda.synchronize()
        status = Path("/proc/self/status").read_text(encoding="ascii")
        (peak,) = re.findall(r"VmHWM:\s+(\d+)", status)
        found[name] = {"s": time.perf_counter() - begin, "peak_mib": int(peak) / 1024}
        if on_gpu:
            found[name]["device_mib"] = torch.cuda.max_memory_reserved() / 2**20
        return result

    prefix = "lora-" if kind == "lora" else ""
    spectral = method == "resm"
    recipe = Recipe(
        base=ModelRef(name="base", path=str(folder / "base")),
        sources=tuple(ModelRef(name=s, path=str(folder / f"{prefix}{s}")) for s in SOURCES),
        method=method,
        params={"rank_limit": RANK_RATIO} if spectral else {},
        places="layers",
        weights={"default": dict.fromkeys(SOURCES, 0.4)},
        rank_ratio={"default": RANK_RATIO} if spectral else {},
    )
    model = phase("load", lambda: load_model(folder / "base", device, torch.bfloat16))
    keep_input_compact(model)
    with TemporaryDirectory(dir=folder) as name:
        store = TensorStore(Path(name), limit_gb=1000.0)
        resident = phase(
            "prepare", lambda: ResidentMerge(recipe, device=device, store=store, memory=memory)
        )
        live = stored_views(model, resident.names)
        phase("first apply", lambda: resident.apply(recipe, live))
        phase("apply", lambda: resident.apply(recipe, live))
        random = torch.Generator().manual_seed(0)
        tokens = torch.randint(1, model.config.vocab_size, (ROWS, TOKENS), generator=random)
        tokens = tokens.to(device)

        def trial() -> None:
            resident.apply(recipe, live)
            with torch.inference_mode():
                model(input_ids=tokens, logits_to_keep=16, use_cache=False)

        def step() -> None:
            with LiveGradient(model, resident).at(recipe):
                rows = tokens[:_WARM_ROWS]
                logits = model(input_ids=rows, logits_to_keep=16, use_cache=False).logits
                logits.float().logsumexp(-1).sum().backward()

        phase("trial", trial)
        phase("warm-start step", step)
        resident = live = model = None
        if memory == MEMORIES[0]:  # a written merge holds nothing, whatever a search does
            phase("merge", lambda: merge(recipe, Path(name) / "merged"))
    return found


def main() -> None:
    """Measure all cases, print and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="1.1b", help="of random_models.py")
    parser.add_argument("--models", type=Path, required=True, help="folder that keeps the models")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--memory", nargs="+", default=MEMORIES, choices=MEMORIES)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)  # in the child
    args = parser.parse_args()
    folder = args.models / args.size
    if args.case:
        print(json.dumps(measure_case(folder, *args.case, args.device)))
        return
    build = f"from random_models import *; from fit import *; from pathlib import Path; \
size = SIZES[{args.size!r}]; write_models(Path({str(folder)!r}), size); \
write_adapters(Path({str(folder)!r}), size)"
    subprocess.run([sys.executable, "-c", build], check=True, cwd=Path(__file__).parent)
    found: dict[str, Any] = {}
    for kind in args.kinds:
        for method in args.methods:
            for memory in args.memory:
                command = [sys.executable, __file__, "--size", args.size, "--device", args.device]
                command += ["--models", str(args.models), "--case", kind, method, memory]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
                case = found[f"{kind} {method} {memory}"] = json.loads(done.stdout)
                print(f"{kind} {method} {memory}", flush=True)
                for phase, row in case.items():
                    device = f", device {row['device_mib']:.0f}" if "device_mib" in row else ""
                    print(f"  {phase:16s} {row['s']:8.2f} s  {row['peak_mib']:7.0f} MiB{device}")
    write_json(args.out, {"machine": machine(), "size": args.size, "cases": found})


if __name__ == "__main__":
    main()
