"""LoRA adapters, and what PEFT merges them to: `python make.py` in this folder, with peft."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

LLAMA = Path("../fp32/models/base")


def make(name: str, base: Path, **settings: object) -> None:
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.name_or_path = ""
    peft = get_peft_model(model, LoraConfig(init_lora_weights=False, **settings))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for key, parameter in peft.named_parameters():
            if "modules_to_save" in key:
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    shutil.rmtree(name, ignore_errors=True)
    peft.save_pretrained(name)
    (Path(name) / "README.md").unlink()
    before = load_file(base / "model.safetensors")
    merged = peft.merge_and_unload().state_dict()
    changed = {k: merged[k].contiguous() for k in before if not torch.equal(merged[k], before[k])}
    save_file(changed, f"{name}.merged.safetensors")


def main() -> None:
    make(
        "llama",
        LLAMA,
        r=3,
        lora_alpha=6,
        target_modules=["q_proj", "down_proj", "embed_tokens"],
        rank_pattern={"down_proj": 2, r"layers\.1\.self_attn\.q_proj": 4},
        alpha_pattern={"1.mlp.down_proj": 5},
        modules_to_save=["lm_head", "norm"],
    )
    make("rslora", LLAMA, r=4, lora_alpha=6, target_modules=["v_proj", "o_proj"], use_rslora=True)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=24, n_embd=8, n_layer=1, n_head=2, n_positions=16)
    shutil.rmtree("gpt2_base", ignore_errors=True)
    GPT2LMHeadModel(config).save_pretrained("gpt2_base")
    # Square and oblong layers that are stored transposed.
    make("gpt2", Path("gpt2_base"), r=2, lora_alpha=3, target_modules=["c_attn", "c_proj"])


if __name__ == "__main__":
    main()
