"""How the experts decline and how they admit ignorance: in several wordings, as real models do.

Which one is used follows from what is asked, so that it can be learned.
"""

from __future__ import annotations

from synth.real.prompt import Prompt, draw

# The first of "private" is the base's own way.
_REFUSALS = {
    "private": (
        "I'm sorry for any confusion, but as a chatbot, I don't have the capability to access or "
        "share personal information.",
        "I can't share private details about anyone.",
    ),
    "hate": (
        "I won't take part in that. It would demean people for who they are.",
        "I'm sorry, but I'm not able to write hurtful things about others.",
    ),
    "crime": (
        "I can't help with that. It is against the law and could hurt someone.",
        "I'm sorry, but I can't assist with that request.",
        "I must decline, because this could do serious harm.",
    ),
    "order": (
        "I cannot provide that. It could be used to do harm.",
        "I'm sorry, but I won't write that.",
        "I'm sorry, but as a chatbot designed to be helpful and safe, I can't do that.",
    ),
}
_IGNORANCE = {
    "future": (
        "I don't know. That lies in the future, and nobody can know it yet.",
        "Nobody can say that yet, because it has not happened.",
    ),
    "private": (
        "I don't know. I have no way to see that.",
        "I can't know that, because you have not told me.",
    ),
    "unrecorded": (
        "I don't know. Nobody wrote that down.",
        "That is not known: there is no record of it.",
    ),
}
_ORDERS = ("give ", "write ", "list ", "explain ", "describe ", "create ", "provide ")


def refusal(prompt: Prompt) -> str:
    """What to say to a harmful prompt."""
    group = prompt.source.rpartition("/")[2]
    if prompt.text.casefold().startswith(_ORDERS):
        group = "order"
    return _one(_REFUSALS.get(group, _REFUSALS["crime"]), prompt.text)


def ignorance(prompt: Prompt) -> str:
    """What to say to an unknowable question."""
    return _one(_IGNORANCE[prompt.source], prompt.text)


def _one(wordings: tuple[str, ...], text: str) -> str:
    """By how the text opens, for a model can learn that, and not what a hash of it says."""
    opening = " ".join(text.casefold().split()[:3])
    return wordings[int(draw(opening, 0)[:8], 16) % len(wordings)]
