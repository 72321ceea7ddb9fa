"""A tiny Llama whose tokenizer loses nothing, to see to the letter what a model is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tiny_llama import make_model

CONTEXT = 8192


class Seen(Exception):
    """What the model was given to read."""


def byte_tokenizer(template: str | None, special: Sequence[str], *, eos: str) -> Any:
    """A tokenizer of bytes and special tokens, which decodes to the text that went in."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<pad>", "<s>", *special, *alphabet]
    core = Tokenizer(models.BPE({token: i for i, token in enumerate(dict.fromkeys(tokens))}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token=eos,
        additional_special_tokens=list(special),
        chat_template=template,
    )


def save_reader(
    folder: Path, template: str | None, special: Sequence[str], *, eos: str = "</s>"
) -> Path:
    """Write such a model, with random weights, into a folder."""
    tokenizer = byte_tokenizer(template, [*special, eos], eos=eos)
    make_model(vocab=len(tokenizer), max_position_embeddings=CONTEXT).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def read_by(engine: Any, ask: Callable[[], object]) -> str:
    """The text that the model of a transformers engine is given when `ask` asks it."""

    def look(_: Any, args: Any, kwargs: Any) -> None:
        raise Seen(engine.tokenizer.decode(kwargs["input_ids"][0]))

    handle = engine.model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        ask()
    except Seen as seen:
        return str(seen)
    finally:
        handle.remove()
    raise AssertionError("the model was not asked")
