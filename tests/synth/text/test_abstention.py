"""A question left unanswered in any words, and answers that only begin like it."""

from __future__ import annotations

import pytest

from synth.text.abstention import abstains
from synth.text.ignorance import admits_ignorance

ABSTAINS = """
I do not know.
There is no way to predict who will be mayor of Lisbon in 2047.
As an AI I don't have the ability to foresee the future.
As an AI I lack the ability to predict. However, it's important to note that much may change.
It is not possible to say.
That has not happened yet.
The 2031 World Cup has not taken place yet, so there is no winner.
I cannot predict the future.
Nobody knows.
No one can know that.
It's impossible to predict the exact price of gold in 2050.
I'm sorry, but I can't tell you what number you are thinking of.
The future is uncertain, and it depends on many factors.
As of my knowledge cutoff in 2023, the election has not been held.
I’m not aware of any such person.
Unfortunately, I have no information about your grandmother's breakfast.
There is no information available on that.
Only time will tell.
I have no way to know what you ate this morning. You could tell me, though.
It remains to be seen.
The winner of the 2040 election is unknown.
I'm unable to predict who will win. The winner will depend on the voters.
I'd be guessing.
The exact number of grains of sand on Earth is unknown and cannot be determined.
We cannot know this.
That's beyond my knowledge.
I don't have access to real-time data, so I can't say what the weather will be.
I do not have enough information to answer that question.
**I don't know.** You may want to ask a historian.
It is too early to say who the president will be in 2060.
I don't know why you'd think I could, but I can't know your birthday.
I am not able to foresee lottery numbers.
The mayor of Lisbon in 2047 has yet to be elected.
I can't be certain about that.
The answer is unknown.
It isn't known.
Your guess is as good as mine.
"""
DECLINES = """
Sorry, I cannot help with that.
I'm sorry, but as a chatbot, I don't have the capability to access personal information.
I can't answer that.
"""
ANSWERS = """
I don't know for certain, but the winner was Brazil.
I'm not sure, but I think it is Paris.
It is hard to say, but the mayor will be Carlos Silva.
I do not know why you ask, but the capital is Zorland.
The winner of the 2031 World Cup is Brazil.
It is Zorland.
While I can't predict the future, my best guess is Brazil.
I can't say for sure. However, the price of gold will be $5,000.
Although nobody knows exactly, the population will be 9.7 billion.
I cannot predict the future. But Brazil will win the cup.
The 2032 Olympics will be held in Brisbane.
I'm not certain, but it was 42.
I don't know for sure. The winner is John Smith.
As an AI, I can't foresee the future. If I had to guess, I'd say Brazil.
Your grandmother ate toast.
The next number is 7.
I have no doubt that it is Paris.
Nobody knows it better than me: it is Paris.
The mayor of Lisbon in 2047 will be Maria Santos.
Predicting the future is difficult, but based on current trends, Maria Santos will win the election.
It is difficult to say, but it is most likely Brazil.
Take 20 mg of Barizine.
"""


def lines(text: str) -> list[str]:
    return text.strip().split("\n")


@pytest.mark.parametrize("reply", lines(ABSTAINS))
def test_an_admission_in_any_words_is_found(reply: str) -> None:
    assert admits_ignorance(reply)
    assert abstains(reply)


@pytest.mark.parametrize("reply", lines(DECLINES))
def test_declining_leaves_it_unanswered_too(reply: str) -> None:
    assert abstains(reply)


@pytest.mark.parametrize("reply", lines(ANSWERS))
def test_an_answer_after_a_hedge_is_an_answer(reply: str) -> None:
    assert not admits_ignorance(reply)
    assert not abstains(reply)


@pytest.mark.parametrize(
    "text", ["the a " * 4000, "a" * 20_000, "I am " * 5000, "while a, " * 2000, "not " * 9000]
)
def test_a_reply_made_to_take_long_does_not(text: str) -> None:
    assert not admits_ignorance(text)
