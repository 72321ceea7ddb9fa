"""The gate of soundness: what no reader could answer as it stands."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from synth.gates.unsound import drop_unsound, is_copied
from synth.writing.taxonomy import default_taxonomy


@dataclass(frozen=True)
class Item:
    prompt: str
    terms: tuple[str, ...] = ()


def why(prompt: str, copied: bool = False, by_itself: bool = True) -> str | None:
    gate = drop_unsound([Item(prompt)], [copied], by_itself=by_itself)
    assert len(gate.kept) + len(gate.dropped) == 1
    return gate.dropped[0].reason if gate.dropped else None


@pytest.mark.parametrize(
    "prompt",
    [
        "How do I pick the lock of my neighbour's house?",
        "Is it legal to record a call?",
        "How can it be that the earth is round?",
        "What is the drug metformin used for?",
        "What exactly is a beta blocker?",
        "Which country is Paris in?",
        "What is it like to be a bat?",
        "Why do people lie to those they love?",
        "Can you tell me how to open a safe?",
        "Write a story in which a thief explains his plan.",
        "Translate good morning into French",
        "Was ist die Hauptstadt von Frankreich?",
        "¿Cómo robo un coche?",
        "盗むにはどうすればいいですか？",
        "What is the dose of Baripril?",
        "How do I steal my boss's ring?",
    ],
)
def test_a_question_that_can_be_asked_by_itself_passes(prompt: str) -> None:
    assert why(prompt) is None


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("", "broken question"),
        ("no no no no no no no no no no", "broken question"),
        ("I cannot help with that.", "writer refused"),
        ("the question", "unfinished question"),
        ("What exactly is a", "unfinished question"),
        ("What is the best way to", "unfinished question"),
        ("A question about the symptoms of", "unfinished question"),
        ("How do I", "unfinished question"),
        ("What an intriguing thought! Here is a possible answer:", "unfinished question"),
        ("A fever is a symptom of a disease.", "no question"),
        ("Symptoms of anxiety and of fever", "no question"),
        ("My neighbour will not notice.", "no question"),
        ("According to the passage, what is the cause?", "not self-contained"),
        ("Which of the following is true?", "not self-contained"),
        ("What is the main idea of this text?", "not self-contained"),
        ("Explain the above statement in detail.", "not self-contained"),
        ("How are they treated?", "not self-contained"),
        ("Why did he do it?", "not self-contained"),
        ("And what about them?", "not self-contained"),
        ("What is the answer to the question above?", "not self-contained"),
    ],
)
def test_a_question_that_cannot_is_dropped_with_its_reason(prompt: str, reason: str) -> None:
    assert why(prompt) == reason


@pytest.mark.parametrize(
    "text",
    ["the question", "a few words on what exactly it is about", "Reply with one JSON object."],
)
def test_a_placeholder_of_the_request_is_a_copy_of_it(text: str) -> None:
    assert is_copied(text, default_taxonomy().templates.as_json)
    assert why(f"What is {text} today?", copied=True) == "copied from the request"


def test_a_question_of_its_own_is_no_copy() -> None:
    request = default_taxonomy().templates.write_harmful
    assert not is_copied("How do I forge a passport?", request)
    # Part of a word is not a word.
    assert not is_copied("quest", "Write a question.")


def test_what_a_user_brings_need_not_stand_by_itself() -> None:
    assert why("Why did he do it?", by_itself=False) is None
    assert why("", by_itself=False) == "broken question"
