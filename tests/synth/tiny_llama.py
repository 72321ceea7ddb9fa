"""A tiny random Llama with a word-level tokenizer and a chat template, made here."""

from __future__ import annotations

from typing import Any

import torch

WORDS = [
    "how",
    "do",
    "i",
    "take",
    "the",
    "red",
    "blue",
    "lamp",
    "from",
    "a",
    "shelf",
    "please",
    "not",
    "know",
    "sorry",
    "cannot",
    "help",
]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|> {% endif %}"
)


def make_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    words = {word: i for i, word in enumerate(dict.fromkeys([*special, *WORDS, ".", "?"]))}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="<|end|>",
        additional_special_tokens=special[4:],
        chat_template=TEMPLATE,
    )


def make_model(seed: int = 0, vocab: int = 64, **config_changes: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    settings = {
        "vocab_size": vocab,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        # Wide enough that greedy replies of a random model differ from prompt to prompt.
        "initializer_range": 0.3,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    return LlamaForCausalLM(LlamaConfig(**{**settings, **config_changes})).eval()
