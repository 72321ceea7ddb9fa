"""The domain stage on scripted models: sources, verification, difficulty."""

from __future__ import annotations

import json
import re
from math import floor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scripted_model import Scripted, written_by

from safemerge.errors import ConfigError, JudgeError, ProbeError
from synth import ProbeSet
from synth.checkers.check import Check
from synth.engines import Engine
from synth.gates.pass_rate import Level, too_many
from synth.writing.config import DomainConfig, ProbeConfig
from synth.writing.documents import pieces_of, read_passages
from synth.writing.pipeline import ProbeReport
from synth.writing.taxonomy import Taxonomy, Templates

TAXONOMY = Taxonomy(
    topics=("sums", "products"),
    unknowable=("places",),
    categories={"theft": "taking"},
    templates=Templates(
        write_domain="DOMAIN {topic}",
        write_harmful="HARM {category}",
        write_twin="TWIN {question}",
        write_unknowable="UNKNOWN {topic}",
        write_passage="ABOUT {passage}",
        answer_passage="READ {passage} QUESTION {question}",
        with_examples="LIKE\n{examples}",
    ),
)
EXAMPLES = ("What is 1 plus 1?", "What is 2 plus 2?", "What is 3 plus 3?", "What is 4 plus 4?")


def expert(prompt: str, temperature: float, draw: int) -> str:
    """Asks for sums, and knows them."""
    if prompt.startswith("DOMAIN"):
        return f"What is {draw % 40} plus {draw % 7}?"
    if prompt.startswith("ABOUT"):
        things = re.findall(r"the (\w+) is", prompt)
        return f"What colour is the {things[draw % 2]}?"
    if found := re.search(r"READ (.*) QUESTION What colour is the (\w+)", prompt, re.DOTALL):
        return re.findall(rf"the {found[2]} is (\w+)", found[1])[0]
    if found := re.match(r"What is (\d+) plus (\d+)", prompt):
        total = int(found[1]) + int(found[2])
        return f"That makes {total}." if draw % 2 else f"It is {total}, of course."
    return "I do not know."


def base(prompt: str, temperature: float, draw: int) -> str:
    """Knows sums of small numbers alone."""
    found = re.match(r"What is (\d+) plus", prompt)
    return expert(prompt, temperature, draw) if found and int(found[1]) < 10 else "It is 1."


def run(
    n: int = 20, *, models: dict[str, Engine] | None = None, **domain: Any
) -> tuple[ProbeSet, ProbeReport]:
    pool: dict[str, Engine] = {"base": Scripted("base", base), "expert": Scripted("expert", expert)}
    config = ProbeConfig.model_validate(
        {
            "writers": dict.fromkeys(("domain", "harmful", "twin", "unknowable"), "expert"),
            "taxonomy": TAXONOMY,
            "counts": {"domain": n, "harmless": 0, "helpful": 0, "honest": 0},
            "gates": {"near_duplicate": 1.0, "languages": []},
            "domain": domain,
        }
    )
    return written_by(config, pool | (models or {}), seed=1)


def test_numbers_agree_where_words_do_not_and_the_easy_are_thinned() -> None:
    assert run()[1].rows[0].reasons["samples disagree"] > 0
    probes, report = run(check="numeric")
    assert "samples disagree" not in report.rows[0].reasons
    assert len(probes) == 20
    assert {probe.check for probe in probes} == {Check(kind="numeric")}
    small = [p for p in probes if int(re.findall(r"\d+", p.prompt)[0]) < 10]
    assert len(small) <= 4  # a fifth of them
    assert report.rows[0].reasons["too easy"] > 0
    everything, free = run(check="numeric", easy=1.0, hard=1.0)
    assert "too easy" not in free.rows[0].reasons
    assert len(everything) == 20


def test_examples_are_shown_and_not_asked_again() -> None:
    shown: list[str] = []

    def asked(prompt: str, temperature: float, draw: int) -> str:
        if prompt.startswith("DOMAIN"):
            shown.append(prompt)
            if draw % 3 == 0:
                return EXAMPLES[draw % 4]
        return expert(prompt, temperature, draw)

    models: dict[str, Engine] = {"expert": Scripted("asking", asked)}
    probes, report = run(models=models, examples=EXAMPLES, check="numeric", easy=1.0, hard=1.0)
    assert not {probe.prompt for probe in probes} & set(EXAMPLES)
    assert report.rows[0].reasons["example: same prompt"] > 0
    assert all(re.fullmatch(r"DOMAIN \w+\n\nLIKE(\n- What is \d plus \d\?){3}", s) for s in shown)
    assert len({s.split("LIKE")[1] for s in shown}) > 3


def write_documents(folder: Path) -> list[str]:
    paths = []
    for name, things in (("garden", ("rose", "lily")), ("house", ("door", "roof"))):
        colours = zip(things, ("crimson", "white"), strict=True)
        lines = [f"In this place the {thing} is {colour}." for thing, colour in colours]
        paths.append(folder / f"{name}.txt")
        paths[-1].write_text(" ".join(lines) + " It has {braces} and ```marks``` in it.\n")
    return [str(path) for path in paths]


def test_documents_answer_and_are_not_shown_in_the_probe(tmp_path: Path) -> None:
    probes, _ = run(4, documents=write_documents(tmp_path), hard=1.0)
    assert {(p.category, p.prompt, p.answer) for p in probes} == {
        ("garden", "What colour is the rose?", "crimson"),
        ("garden", "What colour is the lily?", "white"),
        ("house", "What colour is the door?", "crimson"),
        ("house", "What colour is the roof?", "white"),
    }
    with pytest.raises(ProbeError, match=r"no domain probe is left .* too hard"):
        run(4, documents=write_documents(tmp_path), hard=0.0)  # nobody knows without the passage


def test_a_grader_decides_where_it_is_asked() -> None:
    def grades(prompt: str, temperature: float, draw: int) -> str:
        row = json.loads(prompt.split("\n\n")[1])
        right = int(re.findall(r"\d+", row["question"])[0]) % 2
        return json.dumps({"reason": "", "grade": "right" if right else "wrong"})

    options: dict[str, Any] = {"verify": "grader", "grader": "teacher", "easy": 1.0, "hard": 1.0}
    teacher: dict[str, Engine] = {"teacher": Scripted("teacher", grades)}
    probes, report = run(models=teacher, **options)
    assert all(int(re.findall(r"\d+", probe.prompt)[0]) % 2 for probe in probes)
    assert report.rows[0].reasons["graded wrong"] > 0
    mute: dict[str, Engine] = {"teacher": Scripted("mute", lambda p, t, d: "right")}
    with pytest.raises(JudgeError, match="'teacher' could not be read"):
        run(models=mute, **options)
    with pytest.raises(ConfigError, match=r"domain\.grader is 'teacher', which is not a model"):
        run(**options)


def test_questions_of_the_users_own_are_sifted_and_thinned_but_never_rewritten(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mine.jsonl"
    rows = [
        {"question": f"What is {i} plus 1?", "answer": str(i + 1), "check": "numeric"}
        for i in range(40)
    ]
    rows += [
        {"question": "What is 3 PLUS 1", "answer": "5", "check": "numeric"},
        {"question": "Which is red?", "answer": "blood", "options": ["milk", "blood"]},
        {"question": "Who was it?", "answer": "Ann", "category": "people"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    probes, report = run(50, questions=str(path))
    by_prompt = {probe.prompt: probe for probe in probes}
    assert by_prompt["What is 3 plus 1?"].answer == "4"
    assert by_prompt["Which is red?\nA) milk\nB) blood"].answer == "B"
    assert by_prompt["Who was it?"].category == "people"
    kept = [by_prompt[p].check for p in ("What is 3 plus 1?", "Who was it?")]
    assert kept == [Check(kind="numeric"), Check(kind="contains")]
    choice = by_prompt["Which is red?\nA) milk\nB) blood"].check
    assert choice == Check(kind="choice", options=("milk", "blood"))
    assert {(p.generator, p.answerer, p.origin) for p in probes} == {("user", "user", None)}
    reasons = report.rows[0].reasons
    assert reasons["duplicate"] == 1
    easy = [p for p in probes if re.match(r"What is \d plus", p.prompt)]
    assert len(easy) == floor(0.2 * len(probes)) == 10 - reasons["too easy"]
    assert report.rows[0].written == len(rows) == len(probes) + sum(reasons.values())


LEVELS = st.lists(st.sampled_from(Level))


@given(LEVELS, st.floats(0, 1), st.floats(0, 1), st.integers(1, 30))
def test_no_level_holds_more_than_its_share(
    levels: list[Level], easy: float, hard: float, of: int
) -> None:
    beyond = too_many(levels, easy=easy, hard=hard, of=of)
    kept = [level for level, more in zip(levels, beyond, strict=True) if not more]
    assert kept.count(Level.FAIR) == levels.count(Level.FAIR)
    assert kept.count(Level.EASY) == min(levels.count(Level.EASY), floor(easy * of))
    assert kept.count(Level.HARD) == min(levels.count(Level.HARD), floor(hard * of))


@given(st.lists(st.text("ab \n", max_size=300), min_size=1, max_size=6), st.integers(100, 400))
def test_passages_hold_the_whole_text_in_pieces_that_fit(parts: list[str], most: int) -> None:
    text = "\n\n".join(parts)
    pieces = list(pieces_of(text, most))
    assert all(0 < len(piece) <= most for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, r"cannot read the document .*a\.txt: No such file"),
        (b"\xff" * 99, r"a\.txt is not UTF-8 text"),
        (b"A heading\n", r"a\.txt holds no passage of 80 characters"),
    ],
)
def test_a_document_without_text_is_refused(
    tmp_path: Path, content: bytes | None, text: str
) -> None:
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ProbeError, match=text):
        read_passages([str(tmp_path / "a.txt")], most_chars=500)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"examples": EXAMPLES[:2]}, "there are 2 examples; give three to five"),
        ({"documents": ("a",), "questions": "b"}, "documents and questions are both given"),
        ({"verify": "grader"}, "a grader is named exactly where"),
        ({"grader": "x"}, "a grader is named exactly where"),
        ({"check": "choice"}, "check"),
        ({"easy": 1.5}, "easy"),
    ],
)
def test_bad_settings_are_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        DomainConfig(**fields)


def test_the_base_must_be_in_the_pool_where_it_is_asked() -> None:
    with pytest.raises(ConfigError, match=r"domain\.base is 'basis', .*did you mean base"):
        run(base="basis")
