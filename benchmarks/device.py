"""How near the arithmetic of a search comes to what the device can do.

    python benchmarks/device.py --size 8b --out result.json

Runs on whatever torch device is there. Weights are random and made in memory, one layer at a time,
so a model of any size fits; nothing is read or written. Measured: factorising the deltas of one
layer, `apply` of every family of methods on one layer, and the likelihood of 800 rows under the
whole model. Beside the seconds stand the bytes that have to be moved and the floating point
operations that have to be done at the least, and the share of the time that they would take at the
copy bandwidth and the matrix product rate measured in the same run: 1 is the floor, 0.5 twice it.

What counts as the least: of a factorisation, the product of its factors; of entry-wise methods,
reading deltas and base once and writing the result; of spectral methods, their Gram matrices and
products, without the eigendecompositions; of a likelihood, two operations for every weight and
token, without attention.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measure import machine, spread, write_json
from random_models import Size, config, shapes
from torch import Tensor

from safemerge.factors import factorise
from safemerge.methods import METHODS, Method, Selection, Site

SIZES = {
    "tiny": Size(layers=2, width=64, inner=160, vocabulary=512),
    "1b": Size(layers=16, width=2048, inner=8192, vocabulary=128256, key_value=512),
    "8b": Size(layers=32, width=4096, inner=14336, vocabulary=128256, key_value=1024),
}
N_SOURCES = 3
ROWS, PROMPT, ANSWER = 800, 96, 32
BATCH_TOKENS = 16384
RANK_RATIO = 0.1  # of the leading triplets, and of the spectral methods
FAMILIES = {
    "task_arithmetic": "linear",
    "ties": "trim and sign",
    "dare_ties": "draw and sign",
    "tsvm": "spectral",
    "resm": "spectral",
}


@dataclass(frozen=True, slots=True)
class Floor:
    """What the device reaches at its simplest work.

    Args:
        bytes_s: bytes read and written in a second by copying.
        flops_s: operations in a second of a matrix product, by dtype.
    """

    bytes_s: float
    flops_s: dict[torch.dtype, float]

    def share(self, seconds: float, moved: float, flops: float, dtype: torch.dtype) -> float:
        """Part of `seconds` that the slower of memory and arithmetic needs at the least."""
        return max(moved / self.bytes_s, flops / self.flops_s[dtype]) / seconds


def measure_floor(device: torch.device, small: bool) -> Floor:
    """Copy bandwidth over 1 GiB and matrix products of side 8192; less where `small`."""
    buffer = torch.ones(2**20 if small else 2**28, device=device)
    into = torch.empty_like(buffer)
    copied = best(lambda: into.copy_(buffer), device)
    side = 256 if small else 8192 if device.type != "cpu" else 2048
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(side, side, device=device, dtype=dtype)
        rates[dtype] = 2 * side**3 / best(lambda matrix=matrix: matrix @ matrix, device)
    return Floor(2 * buffer.nbytes / copied, rates)


def best(work: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """Least seconds of some calls, after one that does not count."""
    return timed(work, device, repeats)["min"]


def timed(work: Callable[[], object], device: torch.device, repeats: int = 3) -> dict[str, float]:
    """Spread of the seconds of some calls, after one that does not count."""
    found = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        found.append(time.perf_counter() - begin)
    return spread(found[1:])


def layer(size: Size, device: torch.device) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, base (out, in) in bfloat16 and deltas (n_sources, out, in) of one layer's matrices."""
    random = torch.Generator(device).manual_seed(0)
    for name, shape in shapes(size).items():
        if ".layers.0." in name and len(shape) == 2:
            base = 0.02 * torch.randn(shape, device=device, generator=random)
            deltas = 0.002 * torch.randn((N_SOURCES, *shape), device=device, generator=random)
            yield name, base.bfloat16(), deltas


def factorising(size: Size, device: torch.device, floor: Floor) -> dict[str, Any]:
    """All triplets and leading ones of one delta of every shape in a layer."""
    found: dict[str, Any] = {}
    for _, base, deltas in layer(size, device):
        out_dim, in_dim = base.shape
        for label, ratio in (("all", 1.0), ("leading", RANK_RATIO)):
            rank = max(1, int(ratio * min(base.shape)))
            key = f"factorise {label} {out_dim} x {in_dim}"
            if key in found:
                continue
            asked = None if ratio == 1.0 else rank
            took = timed(lambda d=deltas[0], r=asked: factorise(d, r), device, repeats=1)
            moved, flops = 2 * deltas[0].nbytes, 2 * out_dim * in_dim * rank
            found[key] = row(took, moved, flops, torch.float32, floor)
    return found


def applying(size: Size, device: torch.device, floor: Floor) -> dict[str, Any]:
    """`select` and `merge_into` of one layer's matrices, for every family."""
    matrices = list(layer(size, device))
    entries = sum(base.numel() for _, base, _ in matrices)
    found = {}
    for name, family in FAMILIES.items():
        method = METHODS[name]
        took = timed(prepared_apply(method, matrices), device)
        if method.spectral:
            flops, moved = spectral_work([base.shape for _, base, _ in matrices])
        else:
            flops, moved = 2.0 * N_SOURCES * entries, entries * (4.0 * N_SOURCES + 2 + 2)
        found[f"apply {name} ({family})"] = row(took, moved, flops, torch.float32, floor) | {
            "whole_model_s": took["median"] * size.layers
        }
    return found


def prepared_apply(
    method: Method, matrices: list[tuple[str, Tensor, Tensor]]
) -> Callable[[], None]:
    """What a trial does to these matrices; everything that it finds ready is made here."""
    params = method.parse({"rank_limit": RANK_RATIO} if method.spectral else {})
    numbers = {n: (span.default,) * N_SOURCES for n, span in method.per_source.items()}
    selection = Selection(RANK_RATIO if method.spectral else None, per_source=numbers)
    weights = torch.tensor([0.5, 0.3, 0.4], device=matrices[0][1].device)
    held = []
    for tensor, base, deltas in matrices:
        state = method.prepare(base, deltas, params, Site(tensor, tuple("abc"), factorise))
        held.append((base, torch.empty_like(base), state))

    def apply() -> None:
        for base, out, state in held:
            chosen = state if method.select is None else method.select(state, selection, params)
            coefficients = method.coefficients(chosen, weights, params)
            method.combine_into(out, base, chosen, coefficients, params)

    return apply


def spectral_work(matrices: list[torch.Size]) -> tuple[float, float]:
    """Operations and bytes of two Gram matrices, two roots applied, and the last product."""
    flops = moved = 0.0
    for out_dim, in_dim in matrices:
        kept = N_SOURCES * max(1, math.floor(RANK_RATIO * min(out_dim, in_dim)))
        flops += 4.0 * kept**2 * (out_dim + in_dim) + 2.0 * out_dim * in_dim * kept
        moved += 4.0 * kept * (out_dim + in_dim) + 4.0 * out_dim * in_dim
    return flops, moved


def scoring(size: Size, device: torch.device, floor: Floor) -> dict[str, Any]:
    """Likelihood of 800 answers of 32 tokens to prompts of 96, as the search takes it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from synth.engines.batches import Batch, answer_logprobs

    with torch.device(device):
        previous = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            model = LlamaForCausalLM(LlamaConfig(**config(size))).eval()
        finally:
            torch.set_default_dtype(previous)
    rows = ROWS if size.layers > 2 else 8
    length = PROMPT + ANSWER
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(size.vocabulary, (rows, length), generator=random)
    per_batch = max(1, BATCH_TOKENS // length)
    batches = [
        Batch(
            input_ids=part[:, :-1],
            position_ids=torch.arange(length - 1).expand(len(part), -1),
            attention_mask=torch.ones_like(part[:, :-1]),
            tree=False,
            kept=ANSWER,
            picked=None,
            targets=part[:, -ANSWER:].flatten(),
            counts=(ANSWER,) * len(part),
            rows=torch.arange(len(part)),
        ).to(device)
        for part in ids.split(per_batch)
    ]

    @torch.inference_mode()
    def score() -> Tensor:
        sums = [answer_logprobs(b.answer_logits(model), b)[0] for b in batches]
        return torch.cat(sums)

    took = timed(score, device, repeats=2)
    body = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name)
    head = size.vocabulary * size.width
    flops = 2.0 * rows * ((length - 1) * body + ANSWER * head)
    moved = 2.0 * len(batches) * (body + head)
    key = f"likelihood of {rows} rows of {length} tokens"
    return {key: row(took, moved, flops, torch.bfloat16, floor)}


def row(
    took: dict[str, float], moved: float, flops: float, dtype: torch.dtype, floor: Floor
) -> dict[str, Any]:
    """One measurement with its least work and how near it came."""
    share = floor.share(took["median"], moved, flops, dtype)
    return {"seconds": took, "bytes": moved, "flops": flops, "share_of_floor": share}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--device", help="torch device; default: the accelerator, else the CPU")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    device = torch.device(args.device) if args.device else device
    size = SIZES[args.size]
    floor = measure_floor(device, small=args.size == "tiny")
    record: dict[str, Any] = {"machine": machine(), "size": args.size, "device": str(device)}
    if device.type == "cuda":
        record["device_name"] = torch.cuda.get_device_name(device)
    record["floor"] = {
        "copy_gb_s": floor.bytes_s / 1e9,
        **{f"matmul_{str(d)[6:]}_tflops": rate / 1e12 for d, rate in floor.flops_s.items()},
    }
    print(record["floor"])
    record["measured"] = {}
    for part in (factorising, applying, scoring):
        for name, found in part(size, device, floor).items():
            record["measured"][name] = found
            print(
                f"{name:44s} {found['seconds']['median']:10.4f} s {found['bytes'] / 1e9:8.3f} GB "
                f"{found['flops'] / 1e12:9.4f} TFLOP  {found['share_of_floor']:6.3f} of the floor",
                flush=True,
            )
    write_json(args.out, record)


if __name__ == "__main__":
    main()
