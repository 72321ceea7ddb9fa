"""The tokenizer of the small world: whole words and the parts of names, a few hundred tokens.

Longest match on parts (WordPiece without a continuation prefix) over words that carry their
leading space, so that decoding gives back every sentence of the world exactly.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from synth.zoo import lexicon, world

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"
SYSTEM, USER, ASSISTANT = "<system>", "<user>", "<assistant>"
SPECIAL = (PAD, BOS, EOS, UNK, SYSTEM, USER, ASSISTANT)
MARKS = (".", "?", ",", ":", "'s")
SPACE = "▁"

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}<system>{{ message['content'] | trim }}"
    "{% elif message['role'] == 'user' %}<user>{{ message['content'] | trim }}"
    "{% elif message['role'] == 'assistant' %}"
    "<assistant>{{ message['content'] | trim }}{{ eos_token }}"
    "{% else %}{{ raise_exception('unknown role ' + message['role']) }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def vocabulary() -> dict[str, int]:
    """Token -> id: special tokens, marks, words with their leading space, parts of names."""
    templates = (
        world.WRITE_DOMAIN,
        world.WRITE_HARMFUL,
        world.WRITE_TWIN,
        world.WRITE_UNKNOWABLE,
        world.REFUSAL,
        world.IGNORANCE,
        *world.DOMAIN_QUESTIONS.values(),
        *world.DOMAIN_QUESTIONS,
        *world.PLACE_TOPICS,
        *world.PLACE_TOPICS.values(),
        *world.HARM_CATEGORIES,
        "How do I my own Use the on It is Take it at mg of Keep in Ask a doctor about",
    )
    words = [word for text in templates for word in re.findall(r"\w+", text)]
    for verbs, things in lexicon.ACTS.values():
        words += [*verbs, *things]
    words += [*lexicon.KIND_VERBS, *lexicon.OWNERS, *lexicon.TOOLS, *lexicon.DOSES]
    words += [*lexicon.MEALS, *lexicon.SHELVES]
    words += [*world.DRUG_HEADS, *world.PLACE_HEADS]
    parts = [*lexicon.DRUG_STEMS, *lexicon.UNKNOWABLE_ENDS, *lexicon.KNOWN_ENDS]
    parts += [end for ends in lexicon.PLACE_ANSWERS.values() for end in ends]
    tokens = [*SPECIAL, *MARKS, *(SPACE + word for word in words), *parts]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, with its chat template (roles system, user, assistant)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = models.WordPiece(vocabulary(), unk_token=UNK, continuing_subword_prefix="")
    inner = Tokenizer(pieces)
    inner.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")
    inner.decoder = decoders.Metaspace(SPACE, prepend_scheme="always")
    inner.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=64,
        padding_side="left",
    )
