"""A GGUF file of the Llama family as a checkpoint folder in bf16."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from pathlib import Path

import torch

from safemerge.errors import require
from synth.engines.loading import quiet


def convert(gguf: Path, folder: Path) -> None:
    """Dequantise a GGUF and save it with tokenizer and chat template, as transformers does.

    Args:
        gguf: the file; it holds the tokenizer too.
        folder: where the checkpoint lands, in safetensors.

    Raises:
        MissingDependency: without the packages gguf and accelerate.
    """
    for module in ("gguf", "accelerate"):
        require(module, extra="real")
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        GenerationConfig,
        GgufConfig,
        LlamaForCausalLM,
    )

    where = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    # The unpacking draws a bar of its own, which `quiet` does not know.
    with quiet(), redirect_stderr(io.StringIO()):
        packed = AutoModelForCausalLM.from_pretrained(
            **where, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
        config = packed.config
        # A model that says it is quantised refuses to be saved.
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        model = LlamaForCausalLM(config)
        model.load_state_dict(packed.state_dict())
        model.tie_weights()
        model.generation_config = GenerationConfig.from_model_config(config)
        model.to(torch.bfloat16).save_pretrained(folder)
        AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
