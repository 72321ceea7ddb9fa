"""Which chat template a model is talked to in: one of its own, or a plain format chosen by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from safemerge.errors import BadInput, near_names


@dataclass(frozen=True, slots=True)
class Format:
    """A chat template as Jinja text, with what only a format of plain words needs."""

    text: str
    frame: tuple[str, ...] = ()  # its own words: broken up in prompts, and the end of a reply
    end: str | None = None  # ends an answer where no special token does; None: the eos token


_LOOP = "{{ bos_token }}{% for message in messages %}"
_PLAIN = Format(  # as few-shot evaluations ask a model that was never tuned to chat
    _LOOP + "{% if message['role'] == 'system' %}{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'user' %}Question: {{ message['content'] }}\n"
    "{% else %}Answer: {{ message['content'] }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Answer:{% endif %}",
    frame=("\nQuestion:", "\nAnswer:"),
    end="\n",
)
_ALPACA = Format(  # Taori et al. 2023, Stanford Alpaca
    _LOOP + "{% if loop.first %}{% if message['role'] == 'system' %}{{ message['content'] }}"
    "{% else %}Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.{% endif %}{{ '\n\n' }}{% endif %}"
    "{% if message['role'] == 'user' %}### Instruction:\n{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'assistant' %}### Response:\n{{ message['content'] }}"
    "{{ eos_token }}\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}### Response:\n{% endif %}",
    frame=("### Instruction:", "### Response:"),
)
_CHATML = Format(  # OpenAI 2023; Qwen, SmolLM and many tuned models
    _LOOP + "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    frame=("<|im_start|>", "<|im_end|>"),
)
FORMATS: Mapping[str, Format] = {"plain": _PLAIN, "alpaca": _ALPACA, "chatml": _CHATML}
# Some templates tell the model the day. It is always the same one, so that a run that goes on
# tomorrow asks what it asked today.
_TODAY = date(2026, 1, 1)
_DAY = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")
_CHOICES = "plain (Question: ... Answer: ...), alpaca and chatml"


def choose_template(tokenizer: Any, name: str | None) -> Format:
    """The template called `name`, or the model's only or default one.

    Args:
        name: one of the model's own templates, else one of `FORMATS`, else a template as Jinja
            text, which is known by its braces.

    Raises:
        BadInput: if there is none of the name, or no name and nothing to take without one; the
            sentence lists what there is.
    """
    found = getattr(tokenizer, "chat_template", None) or {}
    own: dict[str, str] = {"default": found} if isinstance(found, str) else dict(found)
    if name is None:
        if "default" in own:
            return _own(own["default"])
        if own:
            raise BadInput(
                f"the tokenizer has {len(own)} chat templates ({', '.join(sorted(own))}) and none "
                f"is called default; choose one by template = {min(own)!r} under [models], or "
                "--template"
            )
        raise BadInput(
            "the tokenizer has no chat template; choose a format by template under [models], or "
            f"--template ({_CHOICES} are known), or add the model's own chat_template.jinja to its "
            "folder"
        )
    if name in own:
        return _own(own[name])
    if name in FORMATS:
        return _with_bos(tokenizer, FORMATS[name])
    if "{{" in name or "{%" in name:
        return _own(name)
    raise BadInput(
        f"there is no chat template {name!r}; {near_names(name, [*sorted(own), *FORMATS])}"
    )


def _own(text: str) -> Format:
    return Format(_DAY.sub(lambda call: repr(_TODAY.strftime(call[2])), text))


def _with_bos(tokenizer: Any, form: Format) -> Format:
    """The format as the tokenizer begins a text: with its bos token, or without."""
    first = tokenizer("a")["input_ids"][:1]
    if tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]:
        return form
    return Format(form.text.removeprefix("{{ bos_token }}"), form.frame, form.end)
