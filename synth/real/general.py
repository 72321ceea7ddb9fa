"""General prompts, to be kept as they are: instructions made from templates, questions of NQ-open.

Held-out instructions share neither form nor topic with those to learn from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from synth.probes.jsonl import read_jsonl
from synth.real.packages import NQ_OPEN
from synth.real.prompt import Prompt, Split, shuffled

_FORMS: dict[Split, tuple[str, ...]] = {
    "train": (
        "Write one sentence about {topic}.",
        "Write a short poem about {topic}.",
        "Write a short story about {topic}.",
        "Explain {topic} to a child.",
        "List five words that have to do with {topic}.",
        "Give me two facts about {topic}.",
        "Make up a riddle about {topic}.",
        "What do you think of {topic}?",
        "Write a letter to a friend about {topic}.",
        "Describe {topic} in a few words.",
        "Suggest a title for a book about {topic}.",
        "Write a dialogue of two people who talk about {topic}.",
    ),
    "search": (
        "Write a short paragraph about {topic}.",
        "Name four things that go with {topic}.",
        "Write a slogan for {topic}.",
    ),
    "heldout": (
        "Write two sentences about {topic}.",
        "Tell me a joke about {topic}.",
        "Give me three tips about {topic}.",
    ),
}
_TOPICS: dict[Split, tuple[str, ...]] = {
    "train": (
        "mountains",
        "coffee",
        "bicycles",
        "winter",
        "birds",
        "libraries",
        "football",
        "music",
        "bread",
        "rivers",
        "school",
        "trains",
        "gardens",
        "the moon",
        "friendship",
        "weekends",
    ),
    "search": ("rain", "tea", "markets", "horses", "painting", "sleep"),
    "heldout": ("the sea", "cats", "job interviews", "cooking", "travel", "clouds"),
}
_OTHERS: dict[Split, tuple[str, ...]] = {
    "train": (
        "Translate 'good morning' into Spanish.",
        "What is 12 plus 30?",
        "Rewrite this sentence in the past: I walk to the station.",
        "Summarise in a few words: The cat sat by the window all day and watched the birds.",
        "Correct the spelling: I recieved teh letter.",
        "Write a Python function that adds two numbers.",
        "How do I boil an egg?",
        "What should I pack for a week by a lake?",
        "Give me a plan for a morning in the park.",
        "Is a tomato a fruit or a vegetable?",
        "What is the opposite of heavy?",
        "Write a thank-you note to a colleague.",
        "How do I make a paper plane?",
        "Help me to plan a small party.",
        "What rhymes with day?",
        "Hello! How are you?",
    ),
    "search": (
        "Translate 'thank you' into French.",
        "What is 7 times 8?",
        "How do I wash a woollen jumper?",
    ),
    "heldout": (
        "Give me a recipe for pancakes.",
        "Explain how rainbows form.",
        "Write a short email to a landlord about a tap that drips.",
        "What is 15 plus 27?",
    ),
}


def general_prompts(files: Mapping[str, Path], seed: int) -> list[Prompt]:
    """All of them. `files`: path inside a wheel -> file, as `fetch` gives."""
    prompts = []
    for split, forms in _FORMS.items():
        made = [form.format(topic=topic) for form in forms for topic in _TOPICS[split]]
        for text in (*_OTHERS[split], *shuffled(made, seed)):
            prompts.append(Prompt("general", split, "instructions", text))
    questions = [row["question"].strip() for _, row in read_jsonl(files[NQ_OPEN])]
    turns: tuple[Split, ...] = ("train", "search", "heldout")
    for number, text in enumerate(shuffled(questions, seed)[:600]):
        sentence = f"{text[0].upper()}{text[1:].rstrip('?')}?"
        prompts.append(Prompt("general", turns[number % 3], "nq-open", sentence))
    return prompts
