"""Random Llama checkpoints to measure with: a base and sources that differ from it by noise.

    python benchmarks/random_models.py FOLDER --size 350m

writes FOLDER/base and FOLDER/a, b, c in bfloat16 from a seed; what is there already stays. Weights
have a standard deviation of 0.02, deltas a tenth of it: small as fine-tuning leaves them, and large
enough to survive bfloat16.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from safemerge.io import CheckpointWriter, TensorSpec

SOURCES = ("a", "b", "c")


@dataclass(frozen=True, slots=True)
class Size:
    """Shape of a Llama; the head is tied to the embedding, and heads have 64 entries.

    Args:
        layers: depth.
        width: of the hidden state.
        inner: of the MLP.
        vocabulary: rows of the embedding.
        key_value: width of keys and values; None is `width`.
    """

    layers: int
    width: int
    inner: int
    vocabulary: int
    key_value: int | None = None


SIZES = {
    "tiny": Size(layers=2, width=64, inner=160, vocabulary=512),
    "350m": Size(layers=24, width=1024, inner=2816, vocabulary=32000),
    "1.1b": Size(layers=22, width=2048, inner=5632, vocabulary=32000, key_value=256),
    "8b": Size(layers=32, width=4096, inner=14336, vocabulary=128256, key_value=1024),
}


def shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """Every stored tensor: `{name: shape}`."""
    width, inner = size.width, size.inner
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (size.vocabulary, width)}
    for layer in range(size.layers):
        at = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            found[f"{at}.{norm}.weight"] = (width,)
        for module in ("q_proj", "o_proj"):
            found[f"{at}.self_attn.{module}.weight"] = (width, width)
        for module in ("k_proj", "v_proj"):
            found[f"{at}.self_attn.{module}.weight"] = (size.key_value or width, width)
        for module in ("gate_proj", "up_proj"):
            found[f"{at}.mlp.{module}.weight"] = (inner, width)
        found[f"{at}.mlp.down_proj.weight"] = (width, inner)
    found["model.norm.weight"] = (width,)
    return found


def write_models(folder: Path, size: Size, seed: int = 0) -> None:
    """Write the base and three sources into `folder`, each in a folder of its name."""
    layout = [TensorSpec(name, shape, torch.bfloat16) for name, shape in shapes(size).items()]
    for index, model in enumerate(("base", *SOURCES)):
        if (folder / model).exists():
            continue
        # The same stream of base weights for all four, so that a source is the base plus noise.
        weights = torch.Generator().manual_seed(seed)
        noise = torch.Generator().manual_seed(1000 * (seed + 1) + index)
        with CheckpointWriter(folder / model, layout=layout) as writer:
            for spec in layout:
                tensor = 0.02 * torch.randn(spec.shape, generator=weights)
                if model != "base":
                    tensor += 0.002 * torch.randn(spec.shape, generator=noise)
                writer.add(spec.name, tensor.bfloat16())
            for name, content in _sidecars(size).items():
                (writer.folder / name).write_text(json.dumps(content), encoding="utf-8")


def config(size: Size) -> dict[str, object]:
    """Content of config.json."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_size": size.width,
        "intermediate_size": size.inner,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.width // 64,
        "num_key_value_heads": (size.key_value or size.width) // 64,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "vocab_size": size.vocabulary,
    }


def _sidecars(size: Size) -> dict[str, object]:
    vocabulary = {"<unk>": 0} | {f"w{i}": i for i in range(1, size.vocabulary)}
    return {
        "config.json": config(size),
        "tokenizer.json": {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": None,
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "<unk>",
        },
    }


def main() -> None:
    """Write the models that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="350m")
    args = parser.parse_args()
    write_models(args.folder, SIZES[args.size])
    parameters = sum(torch.Size(shape).numel() for shape in shapes(SIZES[args.size]).values())
    print(json.dumps({"parameters": parameters, **asdict(SIZES[args.size])}))


if __name__ == "__main__":
    main()
