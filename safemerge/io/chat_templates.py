"""The chat template of a merged model: one by name, the commonest of the models', or a text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import jinja2
from jinja2.ext import loopcontrols

from safemerge.errors import CheckpointError, RecipeError, near_names
from safemerge.io.files import inside, read_json

# By the names that mergekit has too; the texts are ours.
NAMED = {
    "alpaca": (  # Taori et al. 2023, Stanford Alpaca
        "{% for message in messages %}"
        "{% if message['role'] == 'system' %}{{ message['content'] | trim }}{{ '\\n\\n' }}"
        "{% elif message['role'] == 'user' %}{{ '### Instruction:\\n' }}"
        "{{ message['content'] | trim }}{{ '\\n\\n' }}"
        "{% else %}{{ '### Response:\\n' }}{{ message['content'] | trim }}{{ '\\n\\n' }}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"
    ),
    "chatml": (  # OpenAI 2023; Qwen, SmolLM and many tuned models
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' "
        "+ message['content'] + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "exaone": (  # LG AI Research 2024: a system turn always comes first
        "{% for message in messages %}"
        "{% if loop.first and message['role'] != 'system' %}"
        "{{ '[|system|][|endofturn|]\\n' }}{% endif %}"
        "{{ '[|' + message['role'] + '|]' + message['content'] }}"
        "{{ '\\n' if message['role'] == 'user' else '[|endofturn|]\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}"
    ),
    "llama3": (  # Meta 2024, Llama 3 Instruct
        "{{ bos_token }}{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' "
        "+ message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "mistral": (  # Mistral AI 2023: a system message goes before the first question
        "{{ bos_token }}{% set ns = namespace(system='') %}{% for message in messages %}"
        "{% if message['role'] == 'system' %}"
        "{% set ns.system = message['content'] + '\\n\\n' %}"
        "{% elif message['role'] == 'user' %}"
        "{{ ' [INST] ' + ns.system + message['content'] + ' [/INST]' }}{% set ns.system = '' %}"
        "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
    ),
}
_GENERATION = re.compile(r"{%-?\s*(?:end)?generation\s*-?%}")  # a tag of transformers' own


def chat_template_of(choice: str, folders: Sequence[Path]) -> str | None:
    """The Jinja text that a recipe's `chat_template` means.

    Args:
        choice: a key of `NAMED`, a text with braces, or "auto": the commonest template of the
            models; of several, that of the first model which has one of them.
        folders: of the models, base first.

    Returns:
        The text; None where "auto" finds no template.

    Raises:
        RecipeError: an unknown name, or a text that is no Jinja.
    """
    if choice == "auto":
        found = Counter(text for folder in folders if (text := _own_template(folder)))
        return found.most_common(1)[0][0] if found else None
    if "{" not in choice:
        if choice in NAMED:
            return NAMED[choice]
        raise RecipeError(
            f"chat_template is {choice!r}; give auto, the text of a Jinja template, or a name: "
            f"{near_names(choice, NAMED)}"
        )
    try:
        # Parsed only; a template is run by those who use the model, in a sandbox.
        jinja2.Environment(extensions=[loopcontrols]).parse(_GENERATION.sub("", choice))
    except jinja2.TemplateSyntaxError as error:
        raise RecipeError(
            f"chat_template is no Jinja template: line {error.lineno}: {error.message}; correct it"
        ) from error
    return choice


def _own_template(folder: Path) -> str | None:
    """A model's default chat template, without white space around it."""
    file = inside(folder, "chat_template.jinja")
    if file.exists():
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"cannot read {file}: {error}") from error
    config = inside(folder, "tokenizer_config.json")
    template = read_json(config).get("chat_template") if config.exists() else None
    if isinstance(template, list):  # [{"name": ..., "template": ...}]
        named = [entry for entry in template if isinstance(entry, dict)]
        template = next((e.get("template") for e in named if e.get("name") == "default"), None)
    return template.strip() if isinstance(template, str) else None
