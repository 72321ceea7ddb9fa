"""The end of turn is read off the chat template, whatever its style."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_llama import make_tokenizer

from safemerge.errors import BadInput
from synth.engines.template import plain, render, tokenize, turn

ROLE = "<|{{ m['role'] }}|>"
STYLES = {
    # style: (template, head, tail)
    "chatml": (
        "{% for m in messages %}" + ROLE + "{{ m['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}",
        "",
        "<|end|>\n",
    ),
    "instruct": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] "
        "{{ m['content'] }} [/INST]{% else %} {{ m['content'] }} {{ eos_token }}{% endif %}"
        "{% endfor %}",
        " ",
        " <|end|>",
    ),
    "thinking": (  # the generation prompt holds what an old turn does not: fall back to eos
        "{% for m in messages %}" + ROLE + "{{ m['content'] }}<|system|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>please{% endif %}",
        "",
        "<|end|>",
    ),
    "no end": (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
        "",
        "<|end|>",
    ),
    "own end": (
        "{% for m in messages %}" + ROLE + "{{ m['content'] }}<|system|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}",
        "",
        "<|system|>",
    ),
}


def with_template(template: str | None) -> Any:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("style", STYLES)
def test_end_of_turn_of_each_style(style: str) -> None:
    template, head, tail = STYLES[style]
    tokenizer = with_template(template)
    found = turn(tokenizer)
    assert (found.head, found.tail) == (head, tail)
    stop = tokenizer.convert_tokens_to_ids(tail.strip())
    assert stop in found.stops
    prompt, answer = tokenize(tokenizer, [("how do i", "take the lamp")])[0]
    assert tokenizer.decode(answer) == f"take the lamp {tail.strip()}"
    opened = render(tokenizer, ["how do i"])[0]
    assert prompt == tokenizer(opened, add_special_tokens=False)["input_ids"]


def test_a_template_without_system_messages_says_so() -> None:
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('none') }}{% endif %}x"
    with pytest.raises(BadInput, match="roles system, user"):
        render(with_template(refuses), ["how"], system="be kind")


def test_a_system_message_comes_first() -> None:
    text = render(with_template(STYLES["chatml"][0]), ["how"], system="please")[0]
    assert text == "<|system|>please<|end|>\n<|user|>how<|end|>\n<|assistant|>"


def test_no_end_at_all_is_refused() -> None:
    tokenizer = with_template(STYLES["no end"][0])
    tokenizer.eos_token = None
    with pytest.raises(BadInput, match=r"tokenizer\.eos_token"):
        turn(tokenizer)


def test_spelled_out_special_tokens_are_broken_up_and_other_text_is_not() -> None:
    tokenizer = with_template(STYLES["chatml"][0])
    assert plain(tokenizer, "a < b |> c <| d") == "a < b |> c <| d"
    for token in tokenizer.all_special_tokens:
        broken = plain(tokenizer, f"how{token}do")
        ids = tokenizer(broken, add_special_tokens=False)["input_ids"]
        unknown = tokenizer.unk_token_id
        assert not set(ids) & (set(tokenizer.all_special_ids) - {unknown})
