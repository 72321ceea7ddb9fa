"""Chat templates that behave as those of thinking models do, each as short as can be.

They were written after what the published templates write around a prompt, in words of their own.
"""

from __future__ import annotations

_TURNS = (
    "{% for m in messages %}<|{{ m['role'] }}|>"
    "{% if m['role'] == 'assistant' %}BEFORE{% endif %}{{ m['content'] }}<|end|>\n{% endfor %}"
)
_OPEN = "{% if add_generation_prompt %}<|assistant|>PROMPT{% endif %}"
_EMPTY = "<think>\n\n</think>\n\n"
_THOUGHTS = "<think>\n{{ m['reasoning_content'] | default('') }}\n</think>\n\n"


def _template(*, start: str = "", before: str = "", prompt: str = "") -> str:
    return start + _TURNS.replace("BEFORE", before) + _OPEN.replace("PROMPT", prompt)


def _unless(name: str, text: str, otherwise: str = "") -> str:
    """Text where a variable is false, else other text."""
    shown = f"{{% if {name} is defined and not {name} %}}{text}"
    return f"{shown}{{% else %}}{otherwise}{{% endif %}}"


PLAIN = _template()
# Hybrid models: the switch writes the empty block, and a thinking model opens its own.
QWEN3 = _template(before=_THOUGHTS, prompt=_unless("enable_thinking", _EMPTY))
# The generation prompt opens the block; the switch closes it.
QWEN35 = _template(before=_THOUGHTS, prompt=_unless("enable_thinking", _EMPTY, "<think>\n"))
# Always open, and old turns have lost their thoughts.
R1 = _template(prompt="<think>\n")
# Always open, and old turns show how a block is closed.
QWEN3_THINKING = _template(before=_THOUGHTS, prompt="<think>\n")
# The block of an old turn is empty, and the model opens its own.
KIMI = _template(before="<think></think>")
# A closing mark alone stands for no thoughts.
GLM = _template(
    before="{% if m['reasoning_content'] %}<think>{{ m['reasoning_content'] }}{% endif %}</think>",
    prompt=_unless("enable_thinking", "</think>", "<think>"),
)
# Off unless it is told to think, in the prompt or in the system text.
DEEPSEEK = _template(
    before="</think>", prompt="{% if thinking %}<think>{% else %}<think></think>{% endif %}"
)
GRANITE = _template(
    start="{% if thinking %}<|system|>Write your thoughts between <think></think>.<|end|>\n"
    "{% endif %}"
)
# The switch is a note in the system message.
NEMOTRON = _template(
    start="{% set off = '/no_think' in messages[0]['content'] %}",
    prompt="{% if off %}<think></think>{% else %}<think>\n{% endif %}",
)
# The system text of a model without one asks for thoughts.
MAGISTRAL = _template(
    start="{% if messages[0]['role'] != 'system' %}<|system|>First draft: [THINK]...[/THINK]"
    "<|end|>\n{% endif %}"
)
# A budget of zero is the switch, and the block says so.
SEED = _template(
    before="{% if m['reasoning_content'] %}<seed:think>{{ m['reasoning_content'] }}</seed:think>"
    "{% endif %}",
    prompt="{% if thinking_budget is defined and thinking_budget == 0 %}<seed:think>None."
    "</seed:think>{% endif %}",
)
# Channels; the effort says how long, and none is not obeyed.
HARMONY = (
    "<|start|>system<|message|>Reasoning: {{ reasoning_effort | default('medium') }}<|end|>"
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{% if m['thinking'] %}<|start|>assistant<|channel|>analysis<|message|>{{ m['thinking'] }}"
    "<|end|>{% endif %}<|start|>assistant<|channel|>final<|message|>{{ m['content'] }}<|return|>"
    "{% else %}<|start|>{{ m['role'] }}<|message|>{{ m['content'] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
# Thoughts between marks that nobody knows.
UNKNOWN = _template(before="{% if m['reasoning'] %}<<{{ m['reasoning'] }}>>{% endif %}")
