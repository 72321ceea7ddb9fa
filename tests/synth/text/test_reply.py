"""Thinking is told from the answer in every family's marks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.text.reply import ReadReply, read_reply

MARKS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<THINK>", "</Think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel>thought", "<channel|>"),
    ("<unused94>thought", "<unused95>"),
    ("◁think▷", "◁/think▷"),
    ("Here is my thought process:", "Here is my response:"),
    (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
]


@pytest.mark.parametrize(("opened", "closed"), MARKS)
def test_a_closed_block_is_thinking_and_the_rest_is_the_answer(opened: str, closed: str) -> None:
    reply = f"{opened}\nIt could be A. No.\n{closed}\n\nParis is the capital.\n"
    assert read_reply(reply) == ReadReply("Paris is the capital.", "It could be A. No.", False)


@pytest.mark.parametrize(("opened", "closed"), MARKS)
def test_an_open_block_leaves_no_answer(opened: str, closed: str) -> None:
    for end in ("", closed[:3]):
        read = read_reply(f"{opened}\nThe user asks how to {end}")
        assert (read.answer, read.cut_off) == ("", True)
        assert read.thinking.startswith("The user asks how to")


@pytest.mark.parametrize(("opened", "closed"), MARKS[:-2])
def test_where_the_prompt_opened_the_block_only_its_end_is_there(opened: str, closed: str) -> None:
    del opened
    read = read_reply(f"Let me see. It is B.{closed}\nThe answer is C.")
    assert read == ReadReply("The answer is C.", "Let me see. It is B.", False)


def test_blocks_between_answers_are_taken_out() -> None:
    reply = "<think>one</think>First part.\n<think>two</think>\nSecond part."
    assert read_reply(reply) == ReadReply("First part.\nSecond part.", "one\ntwo", False)
    later = "Sure.\n<think>\nNow I should also"
    assert read_reply(later) == ReadReply("", "Now I should also", True)
    opened_by_the_prompt = "a</think>b\n<think>c</think>d"
    assert read_reply(opened_by_the_prompt) == ReadReply("b\nd", "a\nc", False)


def test_the_first_end_ends_the_thinking() -> None:
    # Else a reply could give what was asked and hide it before a second mark.
    assert read_reply("hm</think>Take two.</think>I refuse.").answer == "Take two.I refuse."
    assert read_reply("<think>a <think> b</think>Yes.").answer == "Yes."


@pytest.mark.parametrize(
    "reply",
    [
        "The tag <think> opens a block in HTML-like markup.",
        "analysis of the data shows a trend.",
        "An assistantfinal word.",
        "I think [1] that thought is reasoning.",
        "Here is my response: no.",
        "2 < 3 and 4 > 3",
        "",
    ],
)
def test_text_that_only_looks_like_it_stays(reply: str) -> None:
    assert read_reply(reply) == ReadReply(reply, "", False)


def test_harmony_is_read_with_and_without_its_marks() -> None:
    bare = "analysisThe user wants a greeting. Fine.assistantfinalHello!"
    assert read_reply(bare) == ReadReply("Hello!", "The user wants a greeting. Fine.", False)
    assert read_reply("analysisThe user wants").cut_off
    call = (
        "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant<|channel|>commentary"
        "<|message|>Aside.<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>"
        '{"a": 1}<|return|>'
    )
    assert read_reply(call).answer == '{"a": 1}'
    assert read_reply("<|channel|>final<|message|>Hello!<|return|>") == ReadReply(
        "Hello!", "", False
    )


def test_the_frame_of_an_answer_is_taken_off() -> None:
    for frame in (
        "<answer>Four.</answer>",
        "<response>Four.</response>",
        "<|START_RESPONSE|>Four.<|END_RESPONSE|>",
        "<|begin_of_solution|>Four.<|end_of_solution|>",
    ):
        assert read_reply(f"<think>2+2</think>\n{frame}").answer == "Four."


@given(st.text(), st.text(alphabet=st.characters(exclude_characters="<>[]◁▷|"), min_size=1))
def test_what_follows_a_closed_block_is_the_answer(thought: str, answer: str) -> None:
    if "</think>" in thought.casefold() or "ſ" in thought + answer or "İ" in thought:
        return
    assert read_reply(f"<think>{thought}</think>{answer}").answer == answer.strip()


@given(st.text())
def test_any_text_is_read_and_a_cut_off_has_no_answer(text: str) -> None:
    read = read_reply(text)
    assert not (read.cut_off and read.answer)
