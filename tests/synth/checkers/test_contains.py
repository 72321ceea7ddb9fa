"""The wanted answer among other words: said, denied, asked about, or one of many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.checkers.contains import says

PPI = "proton pump inhibitor"


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("Omeprazole is a type of medication called a proton pump inhibitor (PPI)", PPI),
        ("It is a Proton-Pump inhibitor.", PPI),
        ("They are proton pump inhibitors, a class of drugs that reduce acid.", PPI),
        ("Omeprazole, a **proton pump inhibitor** (PPI), works by reducing acid.", PPI),
        ("Proton pump inhibitor or PPI.", PPI),
        ("Key facts:\n- Class: proton pump inhibitor\n- Use: ulcers\n- Dose: 20 mg", PPI),
        ("It is a proton pump inhibitor and is used to treat ulcers, reflux, and pain", PPI),
        ("The class is an angiotensin-converting enzyme (ACE) inhibitor.", "ACE inhibitor"),
        ("Betablockers.", "a beta blocker"),
        ("Beta blocker", "Beta blockers"),
        ("These are antibodies.", "antibody"),
        ("Take it for three days.", "three day"),
        ("You should take 20 mg of Barizine.", "Take 20 mg of Barizine."),
        ("Take 20mg Barizine.", "20 mg"),
        ("The capital is Zorland.", "It is Zorland."),
        ("It's a “beta blocker”.", "beta blocker"),
        ("Beyoncé", "Beyonce"),
        ("Of these it is our beta blocker.", "beta blocker"),
        ("It is a local anesthetic.", "local anaesthetic"),
        ("The colour of haemoglobin", "color of hemoglobin"),
        ("It is a type of statin, and not a class of statin medication.", "statin"),
        ("There are statins, fibrates, and others. It is a statin.", "statin"),
        ("The class of drug is \\boxed{\\text{beta blocker}}", "beta blocker"),
        ("The colours are red, green and blue.", "red, green, blue"),
        ("The answer is Paris. Not Lyon.", "Paris"),
    ],
)
def test_an_answer_in_a_sentence_is_said(reply: str, wanted: str) -> None:
    assert says(reply, wanted)


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("It is an H2 blocker.", PPI),
        ("It is a pump inhibitor of protons.", PPI),
        ("Parisian food.", "Paris"),
        ("Take 120 mg of Barizine.", "20 mg of Barizine"),
        ("Take 2.20 mg of Barizine.", "20 mg of Barizine"),
        ("Take 20.5 mg", "20"),
        ("Take 10 mg of Barizine.", "Take 20 mg of Barizine."),
        ("", "Paris"),
    ],
)
def test_other_words_are_not_the_answer(reply: str, wanted: str) -> None:
    assert not says(reply, wanted)


@pytest.mark.parametrize(
    ("reply", "denied"),
    [
        ("It is not a proton pump inhibitor", True),
        ("Omeprazole isn’t a proton pump inhibitor", True),
        ("It was never a proton pump inhibitor.", True),
        ("Unlike a proton pump inhibitor, famotidine blocks H2.", True),
        ("It is a beta blocker, not a proton pump inhibitor.", True),
        ("It is a beta blocker rather than a proton pump inhibitor.", True),
        ("A proton pump inhibitor is not what this is.", True),
        ("I don't know if it is a proton pump inhibitor", True),
        ("The answer is not a proton pump inhibitor.", True),
        ("It is not a beta blocker, statin or proton pump inhibitor.", True),
        ("It is not an H2 blocker but a proton pump inhibitor.", False),
        ("It's not an H2 blocker, it is a proton pump inhibitor.", False),
        ("It is not only cheap, it is a proton pump inhibitor.", False),
        ("There is no doubt that omeprazole is a proton pump inhibitor", False),
        ("I'm not sure, but it might be a proton pump inhibitor.", False),
    ],
)
def test_a_denied_answer_is_not_said(reply: str, denied: bool) -> None:
    assert says(reply, PPI) is not denied


@pytest.mark.parametrize("wanted", [PPI, "beta blocker", "statin"])
@pytest.mark.parametrize(
    "reply",
    [
        "It could be a beta blocker, a statin, or a proton pump inhibitor.",
        "Drug classes include beta blockers, ACE inhibitors, statins and proton pump inhibitors.",
        "Classes are proton pump inhibitors, beta blockers, statins, and others.",
        "- beta blocker\n- statin\n- proton pump inhibitor",
        "1. Statins\n2. Proton pump inhibitors\n3. Beta blockers\n4. Others",
        "Is it a statin? Is it a beta blocker? Is it a proton pump inhibitor?",
    ],
)
def test_a_list_of_everything_says_nothing(reply: str, wanted: str) -> None:
    assert not says(reply, wanted)


@pytest.mark.parametrize("wanted", ["Paris", "Lyon"])
def test_a_choice_of_two_is_no_answer(wanted: str) -> None:
    assert not says("It is either Paris or Lyon.", wanted)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("Yes, it does.", "yes"),
        ("No.", "no"),
        ("There is no doubt: yes.", "yes"),
        ("**True**", "true"),
        ("The statement is false.", "false"),
        ("The answer is no.", "no"),
        ("There is no way to tell.", None),
        ("It may be true or false.", None),
    ],
)
def test_yes_and_no_are_answers_and_not_words(reply: str, said: str | None) -> None:
    assert [word for word in ("yes", "no", "true", "false") if says(reply, word)] == (
        [said] if said else []
    )


@given(
    st.lists(st.from_regex(r"[a-z]{2,9}", fullmatch=True), min_size=1, max_size=4).filter(
        lambda words: not {*words} & {"an", "the", "and", "or", "no", "not", "yes", "it", "is"}
    )
)
def test_any_answer_said_plainly_is_found(words: list[str]) -> None:
    answer = f"xq{' '.join(words)}"
    assert says(f"Certainly! Its name is {answer}.", answer)
    assert not says(f"Its name is not {answer}.", answer)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 20_000,
        "x, or " * 3000,
        "proton (" * 2500,
        "not proton " * 2000,
        "our " * 5000,
        f"{PPI}, " * 900,
    ],
)
def test_a_reply_made_to_take_long_does_not(text: str) -> None:
    assert not says(text, PPI)
