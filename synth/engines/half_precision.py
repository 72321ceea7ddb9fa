"""Whether a CPU multiplies in half precision as fast as in float32, by trying it.

What a processor says of itself does not tell: with AVX-512 but without arithmetic in bfloat16 it
is emulated, and with it, but without AMX, it can still be half as fast as float32.
"""

from __future__ import annotations

import time
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

# Rows, inputs and outputs of a product as small models have them.
_SHAPE = (256, 576, 1536)
_TRIES = 5
_SLOWER = 1.25  # of which half precision is worth the memory that it saves


@cache
def half_pays(dtype: torch.dtype) -> bool:
    """False for a half precision in which this processor is clearly slower than in float32."""
    if dtype not in (torch.bfloat16, torch.float16):
        return True
    rows, inputs, outputs = _SHAPE
    wide = torch.ones(rows, inputs), torch.ones(outputs, inputs)
    half = wide[0].to(dtype), wide[1].to(dtype)
    # In turn, so that other programs slow both; the first of each is a warm-up.
    times = [(_seconds(*wide), _seconds(*half)) for _ in range(1 + _TRIES)][1:]
    return min(b for _, b in times) <= _SLOWER * min(a for a, _ in times)


def _seconds(x: Tensor, weight: Tensor) -> float:
    start = time.perf_counter()
    functional.linear(x, weight)
    return time.perf_counter() - start
