"""Make the models and expected tensors of this folder; needs mergekit 0.1.5 and torch 2.13.0.

cd tests/data/goldens/deep && python make.py
"""

import json
import subprocess
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

LAYERS, WIDTH, KV, INNER, VOCABULARY = 7, 8, 4, 12, 16
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": LAYERS,
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": False,
    "dtype": "float32",
}
LAYER = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (KV, WIDTH),
    "self_attn.v_proj": (KV, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (INNER, WIDTH),
    "mlp.up_proj": (INNER, WIDTH),
    "mlp.down_proj": (WIDTH, INNER),
    "input_layernorm": (WIDTH,),
    "post_attention_layernorm": (WIDTH,),
}


WORDS = [f"w{i}" for i in range(VOCABULARY)]
OTHER_WORDS = ["new0", *reversed(WORDS[3:]), "new1", "w1"]  # without w0 and w2


def make_models() -> None:
    torch.manual_seed(0)
    base = {name: torch.randn(shape) for name, shape in shapes(VOCABULARY).items()}
    for model, size in {"base": 0.0, "a": 0.3, "b": 0.3, "c": 1.0}.items():
        tensors = {name: value + size * torch.randn(value.shape) for name, value in base.items()}
        save(model, tensors, VOCABULARY)
    save_tokenizer("base", WORDS)
    longer = {name: torch.randn(shape) for name, shape in shapes(len(OTHER_WORDS)).items()}
    save("other_words", longer, len(OTHER_WORDS))
    save_tokenizer("other_words", OTHER_WORDS)
    save_adapter()
    for model in ("base", "a"):
        tensors = load_file(f"models/{model}/model.safetensors")
        halves = {name: value.bfloat16() for name, value in tensors.items()}
        save(f"{model}_half", halves, VOCABULARY)


def shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    outside = {
        "model.embed_tokens.weight": (vocabulary, WIDTH),
        "model.norm.weight": (WIDTH,),
        "lm_head.weight": (vocabulary, WIDTH),
    }
    return outside | {
        f"model.layers.{layer}.{name}.weight": shape
        for layer in range(LAYERS)
        for name, shape in LAYER.items()
    }


def save(model: str, tensors: dict[str, torch.Tensor], vocabulary: int) -> None:
    folder = Path("models") / model
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG | {"vocab_size": vocabulary}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def save_tokenizer(model: str, words: list[str]) -> None:
    ids = {word: i for i, word in enumerate(words)}
    Tokenizer(WordLevel(ids, unk_token=words[-1])).save(f"models/{model}/tokenizer.json")
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    Path(f"models/{model}/tokenizer_config.json").write_text(json.dumps(config) + "\n")


def save_adapter() -> None:
    folder = Path("models/adapter")
    folder.mkdir(exist_ok=True)
    tensors = {}
    for layer in range(LAYERS):
        for module in ("self_attn.q_proj", "mlp.down_proj"):
            rows, columns = LAYER[module]
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = 0.3 * torch.randn(2, columns)
            tensors[f"{name}.lora_B.weight"] = 0.3 * torch.randn(rows, 2)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "base",
        "r": 2,
        "lora_alpha": 3,
        "target_modules": ["q_proj", "down_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")


def merge_all() -> None:
    Path("expected").mkdir(exist_ok=True)
    for recipe in sorted(Path("recipes").glob("*.yml")):
        with tempfile.TemporaryDirectory() as out:
            command = ["mergekit-yaml", str(recipe), out, "--no-copy-tokenizer"]
            subprocess.run([*command, "--lora-merge-cache", f"{out}/adapters"], check=True)
            merged = load_file(f"{out}/model.safetensors")
        save_file(merged, f"expected/{recipe.stem}.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    make_models()
    merge_all()
