"""A chat template is checked once, and the end of turn is read off it, whatever its style."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_llama import TEMPLATE, make_tokenizer

from safemerge.errors import BadInput
from synth.engines.conversation import Message
from synth.engines.template import ChatSettings, ChatTemplate, open_template

ROLE = "<|{{ m['role'] }}|>"
OPEN = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
LOOP = "{% for m in messages %}" + ROLE
STYLES = {
    # style: (template, head, tail)
    "chatml": (LOOP + "{{ m['content'] }}<|end|>\n{% endfor %}" + OPEN, "", "<|end|>\n"),
    "instruct": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] "
        "{{ m['content'] }} [/INST]{% else %} {{ m['content'] }} {{ eos_token }}{% endif %}"
        "{% endfor %}",
        " ",
        " <|end|>",
    ),
    "another opening": (  # the generation prompt holds what an old turn does not
        LOOP + "{{ m['content'] }}<|system|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>please{% endif %}",
        "",
        "<|system|>",
    ),
    "no end": (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
        "",
        "<|end|>",
    ),
    "own end": (LOOP + "{{ m['content'] }}<|system|>{% endfor %}" + OPEN, "", "<|system|>"),
    # what these write before an answer, they do not write for a reply: it is put behind the prompt
    "no generation prompt": (LOOP + "{{ m['content'] }}<|end|>\n{% endfor %}", "", "<|end|>\n"),
    "a mark of the answer": (
        LOOP + "{% if m['role'] == 'assistant' %}all\n{% endif %}{{ m['content'] }}<|end|>\n"
        "{% endfor %}" + OPEN,
        "",
        "<|end|>\n",
    ),
}


def opened(text: Any, **settings: Any) -> ChatTemplate:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = text
    return open_template(tokenizer, ChatSettings(**settings))


@pytest.mark.parametrize("style", STYLES)
def test_end_of_turn_of_each_style(style: str) -> None:
    text, head, tail = STYLES[style]
    template = opened(text)
    tokenizer = template.writer.tokenizer
    assert (template.head, template.tail) == (head, tail)
    assert tokenizer.convert_tokens_to_ids(tail.strip()) in template.stops
    prompt, answer = template.tokenize([("how do i", "take the lamp")])[0]
    assert tokenizer.decode(answer) == f"take the lamp {tail.strip()}"
    (rendered,) = template.render(["how do i"])
    assert prompt == tokenizer(rendered, add_special_tokens=False)["input_ids"]


def test_a_reply_begins_where_an_old_answer_does() -> None:
    for style, end in (
        ("no generation prompt", "<|assistant|>"),
        ("a mark of the answer", "all\n"),
    ):
        (rendered,) = opened(STYLES[style][0]).render(["how"])
        assert rendered.endswith(end)
        assert rendered.count("<|assistant|>") == 1


LEFT_OUT = "leaves out or changes the user's message"
TWICE = "writes 2 times the user's message"
MOVED = "puts an answer before its question, or writes one of them more than once"
BAD = [
    # dropped or changed
    ("<|user|>hello<|end|><|assistant|>", LEFT_OUT),
    ("{% for m in messages if m['role'] == 'system' %}{{ m['content'] }}{% endfor %}", LEFT_OUT),
    (LOOP + "{{ m['content'] | upper }}<|end|>{% endfor %}", LEFT_OUT),
    (LOOP + "{{ m['content'] | replace('shelf', 'table') }}<|end|>{% endfor %}", LEFT_OUT),
    (LOOP + "{{ m['content'][:12] }}<|end|>{% endfor %}", LEFT_OUT),
    # doubled
    (LOOP + "{{ m['content'] }}{{ m['content'] }}<|end|>{% endfor %}", TWICE),
    (LOOP + "{{ m['content'] }}<|end|>{% endfor %}{{ messages[-1]['content'] }}", TWICE),
    ("{{ messages }}" + LOOP + "{{ m['content'] }}<|end|>{% endfor %}", TWICE),
    # reordered
    ("{% for m in messages | reverse %}" + ROLE + "{{ m['content'] }}<|end|>{% endfor %}", MOVED),
    (
        "{% for m in messages if m['role'] != 'user' %}{{ m['content'] }}{% endfor %}"
        "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}",
        MOVED,
    ),
    (
        LOOP
        + "{{ m['content'] }}<|end|>{% endfor %}{{ messages[1:][0]['content'] if messages[1:] }}",
        MOVED,
    ),
    # raising
    ("{{ raise_exception('not today') }}", r"refuses a conversation .* user \(not today\)"),
    (LOOP + "{{ m['content'] + 1 }}{% endfor %}", "refuses a conversation with the roles user"),
    ("{% for m in messages %}{{ m['content'] }}", r"refuses .*\(Unexpected end of template"),
    ("{% for tool in tools_in_prompt.x %}{% endfor %}", "'tools_in_prompt' is undefined"),
]


@pytest.mark.parametrize(("template", "said"), BAD)
def test_a_template_that_loses_the_message_is_refused_in_a_sentence(
    template: str, said: str
) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        opened(template)
    assert "choose another format by template" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", ["m['content'] | trim", "m['content'].strip()", "m.content"])
def test_a_template_that_trims_is_taken(kept: str) -> None:
    (text,) = opened(LOOP + f"{{{{ {kept} }}}}<|end|>{{% endfor %}}" + OPEN).render(["how do i"])
    assert text == "<|user|>how do i<|end|><|assistant|>"


PARTS = {
    "a loop over parts": "{% for p in m['content'] %}{{ p['text'] }}{% endfor %}",
    "by type": "{% for p in m['content'] if p['type'] == 'text' %}{{ p['text'] }}{% endfor %}",
    "the first one": "{{ m['content'][0]['text'] }}",
    "no strings": "{% if m['content'] is string %}{% else %}{{ m['content'][0].text }}{% endif %}",
}


@pytest.mark.parametrize("style", PARTS)
def test_contents_are_lists_of_parts_where_the_template_wants_them(style: str) -> None:
    template = opened(LOOP + PARTS[style] + "<|end|>\n{% endfor %}" + OPEN)
    text = "<|system|>please<|end|>\n<|user|>how do i<|end|>\n<|assistant|>"
    assert template.render(["how do i"], system="please") == [text]
    before, after = template.tokenize([("how do i", "take the lamp")])[0]
    decode = template.writer.tokenizer.decode
    assert (decode(before), decode(after)) == (
        "<|user|> how do i <|end|> <|assistant|>",
        "take the lamp <|end|>",
    )


CHATML = STYLES["chatml"][0]
NO_SYSTEM = {
    "refused": "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    + CHATML,
    "dropped": CHATML.replace("messages %}", "messages if m['role'] != 'system' %}"),
    "turns must alternate": "{% if messages[0]['role'] != 'user' %}{{ raise_exception('roles must "
    "alternate') }}{% endif %}" + CHATML,
}


@pytest.mark.parametrize("style", NO_SYSTEM)
def test_a_system_message_goes_into_the_users_where_there_is_none(style: str) -> None:
    template = opened(NO_SYSTEM[style])
    wanted = ["<|user|>please\n\nhow<|end|>\n<|assistant|>"]
    assert template.render(["how"], system="please") == wanted
    assert template.render([(Message("system", "please"), Message("user", "how"))]) == wanted


@pytest.mark.parametrize(
    "template",
    [
        CHATML.replace("m['content']", "(m['content'] ~ m['content'] if m.role == 'system' else "
                       "m['content'])"),
        "{% for m in messages | sort(attribute='role', reverse=true) %}" + ROLE
        + "{{ m['content'] }}<|end|>\n{% endfor %}" + OPEN,
        "{% set s = messages[0]['content'] if messages[0].role == 'system' else '' %}"
        + CHATML.replace("messages %}", "messages if m.role != 'system' %}") + "{{ s }}",
    ],
)  # fmt: skip
def test_a_system_message_out_of_place_is_refused_where_it_is_used(template: str) -> None:
    made = opened(template)
    assert "how" in made.render(["how"])[0]
    with pytest.raises(BadInput, match="does not write a system message before the user's"):
        made.render(["how"], system="please")


def test_a_system_message_comes_first() -> None:
    text = opened(CHATML).render(["how"], system="please")[0]
    assert text == "<|system|>please<|end|>\n<|user|>how<|end|>\n<|assistant|>"


def test_no_end_at_all_is_refused() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = STYLES["no end"][0]
    tokenizer.eos_token = None
    with pytest.raises(BadInput, match=r"tokenizer\.eos_token"):
        open_template(tokenizer)


@pytest.mark.parametrize("form", ["%d %b %Y", "%Y-%m-%d", "%B %d, %Y"])
def test_every_day_is_the_same_day(form: str) -> None:
    text = opened("Today: {{ strftime_now('" + form + "') }}\n" + CHATML).render(["how"])[0]
    assert text.startswith(
        ("Today: 01 Jan 2026\n", "Today: 2026-01-01\n", "Today: January 01, 2026")
    )


def test_spelled_out_special_tokens_are_broken_up_and_other_text_is_not() -> None:
    template = opened(CHATML)
    tokenizer = template.writer.tokenizer
    assert template.plain("a < b |> c <| d") == "a < b |> c <| d"
    for token in tokenizer.all_special_tokens:
        broken = template.plain(f"how{token}do")
        ids = tokenizer(broken, add_special_tokens=False)["input_ids"]
        unknown = tokenizer.unk_token_id
        assert not set(ids) & (set(tokenizer.all_special_ids) - {unknown})


@pytest.mark.parametrize("token", ["<tool>", "[CALL]", "</tool>"])
def test_other_tokens_of_the_template_are_broken_up_too(token: str) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([token, "please"])
    tokenizer.chat_template = CHATML + "{% if tools %}" + token + " please{% endif %}"
    assert open_template(tokenizer).plain(f"x{token} please") == f"x{token[0]} {token[1:]} please"


def test_the_fingerprint_covers_all_that_the_model_reads() -> None:
    chats: list[dict[str, Any]] = [
        {},
        {"thinking": "free"},
        {"thinking": "free", "thinking_tokens": 7},
        {"template": "chatml"},
        {"variables": {"style": "brief"}},
    ]
    prints = [opened(TEMPLATE, **chat).fingerprint() for chat in chats]
    assert len({*prints, opened(CHATML).fingerprint()}) == len(chats) + 1
    assert prints[0] == opened(TEMPLATE).fingerprint()
