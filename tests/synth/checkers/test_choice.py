"""The option that a reply takes, in every wording; none where it takes none."""

from __future__ import annotations

import pytest

from synth.checkers.choice import LETTERS, option_taken, same_option

OPTIONS = ("aspirin", "a beta blocker", "none of them", "heparin")


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        ("(b) because it slows the heart", "B"),
        ("C. None", "C"),
        ("**D**", "D"),
        ("B - a beta blocker", "B"),
        ("Answer: **D**", "D"),
        ("**Answer:** D", "D"),
        ("### Final Answer\nD", "D"),
        ("The correct answer is **(B)**.", "B"),
        ("The correct option is B because it slows the heart.", "B"),
        ("The answer is \\boxed{B}", "B"),
        ("So we get $\\boxed{\\text{B}}$.", "B"),
        ("My answer is b.", "B"),
        ("The answer is B, not C.", "B"),
        ("First I thought: answer: A. But then no.\nAnswer: C", "C"),
        ("The answer is A. No, the answer is B.", "B"),
        ("I would choose D.", "D"),
        ("It's option B", "B"),
        ("Option B is wrong. Option C is right.", "C"),
        ("A) aspirin\nB) a beta blocker\nC) none of them\nD) heparin\n\nAnswer: B", "B"),
        ("Aspirin!", "A"),
        ("The correct answer is heparin.", "D"),
        ("It must be aspirin, of course", "A"),
        ("A patient should get a beta blocker", "B"),
    ],
)
def test_the_option_is_found(reply: str, letter: str) -> None:
    assert option_taken(reply, OPTIONS) == LETTERS.index(letter)
    assert same_option(reply, letter, OPTIONS)


@pytest.mark.parametrize(
    "reply",
    [
        "The answer is a bit unclear to me.",
        "ANSWER: I don't know",
        "Answer: I",
        "The answer is A and B.",
        "aspirin or a beta blocker",
        "The answer is not B.",
        "A) aspirin\nB) a beta blocker\nC) none of them\nD) heparin",
        "A patient asks.",
        "I cannot choose.",
        "E",
        "",
        "I do not know",
    ],
)
def test_no_option_is_invented(reply: str) -> None:
    assert option_taken(reply, OPTIONS) is None


@pytest.mark.parametrize("reply", ["ANSWER: I don't know", "I think so", "I'd say all of them"])
def test_of_ten_options_a_pronoun_is_none(reply: str) -> None:
    ten = tuple(f"thing{number}" for number in range(10))
    assert option_taken(reply, ten) is None
    assert option_taken("I.", ten) == 8
    assert option_taken("Answer: I", ten) == 8


def test_of_options_within_each_other_the_longer_one_is_taken() -> None:
    options = ("beta blocker", "selective beta blocker", "statin")
    assert option_taken("It is a selective beta blocker.", options) == 1
    assert option_taken("It is a beta blocker.", options) == 0


@pytest.mark.parametrize(
    "reply", ["There is no way to know.", "I can't tell.", "Nobody knows that."]
)
def test_ignorance_in_other_words_is_the_option_that_admits_it(reply: str) -> None:
    assert option_taken(reply, ("Brazil", "I do not know.", "France")) == 1
    assert option_taken(reply, ("Brazil", "Spain", "France")) is None
