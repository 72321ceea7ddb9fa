"""A tiny mixture of three random experts, and examples of what each is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from safemerge.fusion.examples import Example
from safemerge.fusion.mixture import MixturePlan, build_mixture
from safemerge.inputs import open_inputs
from safemerge.recipe import ModelRef, Recipe

EXPERTS = 3


def tiny_mixture(folder: Path, kind: str = "llama", top_k: int = 2) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    refs = []
    for seed in range(1 + EXPERTS):
        path = folder / f"{kind}-{seed}"
        if not path.exists():
            torch.manual_seed(seed)
            config = AutoConfig.for_model(
                kind,
                vocab_size=40,
                hidden_size=16,
                intermediate_size=24,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                pad_token_id=0,
            )
            AutoModelForCausalLM.from_config(config).save_pretrained(path)
        refs.append(ModelRef(name="base" if seed == 0 else f"e{seed}", path=str(path)))
    base, *sources = refs
    recipe = Recipe(base=base, sources=tuple(sources), method="linear", weights={"default": {}})
    return build_mixture(open_inputs(recipe), MixturePlan(top_k=top_k))


def tiny_examples(count: int, seed: int = 0) -> list[Example]:
    """A prompt begins with the token of its expert, 10 to 12, and so does its answer."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for number in range(count):
        expert = number % EXPERTS
        length = 1 + int(torch.randint(5, (1,), generator=generator))
        words = torch.randint(13, 40, (length,), generator=generator).tolist()
        made.append(Example((10 + expert, *words), (10 + expert, *words[:2], 2), expert))
    return made
