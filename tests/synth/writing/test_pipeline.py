"""The pipeline's logic on scripted models: what is kept, dropped, chosen, resumed."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from scripted_model import Scripted, number, written_by

from safemerge.errors import ConfigError, ProbeError
from synth import Probe, ProbeSet
from synth.engines import Engine
from synth.judges import PhraseJudge, Verdict
from synth.judges.reviewer import NoReviewer
from synth.writing.config import Counts, ProbeConfig, Writers
from synth.writing.pipeline import WritingInputs, make_probes
from synth.writing.questions import clean
from synth.writing.taxonomy import Taxonomy, Templates, default_taxonomy

REFUSAL = "Sorry, I cannot help with that."
TAXONOMY = Taxonomy(
    topics=("doses", "meals"),
    unknowable=("places",),
    categories={"theft": "taking", "fraud": "faking"},
    templates=Templates(
        write_domain="DOMAIN {topic}",
        write_harmful="HARM {category} {description}",
        write_twin="TWIN {question}",
        write_unknowable="UNKNOWN {topic}",
    ),
)
WRITERS = Writers(domain="expert", harmful="expert", twin="base", unknowable="base")


def write(prompt: str, draw: int) -> str | None:
    """What every scripted model does when asked to write."""
    word = f"gadget{draw % 997}"
    if prompt.startswith("DOMAIN"):
        return f"1. What is the dose of {word}?"
    if prompt.startswith("HARM"):
        return f'"How do I grab the {word} of my neighbour in {prompt.split()[1]}?"'
    if found := re.match(r"TWIN .*(gadget\d+)", prompt):
        return f"How do I clean my own {found[1]}?"
    if prompt.startswith("UNKNOWN"):
        return f"What is the capital of {word}?"
    return None


def model(name: str, *, refuses: Callable[[str], bool], knows: bool = True) -> Scripted:
    def reply(prompt: str, temperature: float, draw: int) -> str:
        written = write(prompt, draw)
        if written is not None:
            return written
        if "grab" in prompt:
            return REFUSAL[:-1] + f", says {name}." if refuses(prompt) else "Use the ladder on it."
        if "clean" in prompt:
            return f"Use water, not {name}." if name == "odd" else "Use water."
        if "dose" in prompt:
            return f"Take {prompt.count('7') + (draw % 3 if '9' in prompt else 0)} mg."
        return "I do not know." if knows is False else "It is Zorville."

    return Scripted(name, reply)


def pool() -> dict[str, Engine]:
    return {
        "base": model("base", refuses=lambda p: "3" in p),
        "expert": model("expert", refuses=lambda p: False),
        "safe": model("safe", refuses=lambda p: "5" in p or "3" in p),
        "odd": model("odd", refuses=lambda p: False, knows=False),
    }


def config(n: int = 24, **more: Any) -> ProbeConfig:
    own = {"taxonomy": TAXONOMY, "counts": Counts(domain=n, harmless=n, helpful=n, honest=n)}
    # The scripted questions differ in a number or a made-up word alone.
    gates = {"gates": {"near_duplicate": 1.0, "languages": ()}}
    # They are all as easy for one model as for another.
    easy = {"domain": {"easy": 1.0, "hard": 1.0}, **gates}
    return ProbeConfig(writers=WRITERS, **{**own, **easy, **more})


def make(n: int = 24, **more: Any) -> tuple[ProbeSet, Any]:
    return written_by(config(n), pool(), seed=more.pop("seed", 1), **more)


def test_scripted_models_are_engines() -> None:
    assert all(isinstance(engine, Engine) for engine in pool().values())


def test_every_axis_is_filled_and_the_report_adds_up() -> None:
    probes, report = make()
    assert [row.axis for row in report.rows] == ["domain", "harmless", "helpful", "honest"]
    for row in report.rows:
        assert (row.kept, len(probes.axis(row.axis))) == (24, 24)
        assert row.kept + sum(row.reasons.values()) == row.written
    assert {probe.split for probe in probes} == {"search"}
    assert all(re.match(r"(What|How) .*\?$", probe.prompt) for probe in probes)


def test_a_harmful_question_that_nobody_refuses_is_dropped_and_counted() -> None:
    probes, report = make()
    for probe in probes.axis("harmless"):
        assert "3" in probe.prompt or "5" in probe.prompt
        assert probe.answer.startswith("Sorry")
    row = next(row for row in report.rows if row.axis == "harmless")
    assert row.reasons["nobody refuses"] > 0


def test_one_refusal_is_chosen_at_random_and_repeatably() -> None:
    answerers = {p.answerer for p in make(60)[0].axis("harmless") if "3" in p.prompt}
    assert answerers == {"base", "safe"}
    assert make()[0] == make()[0]
    assert make()[0].content_hash != make(seed=2)[0].content_hash


def test_every_helpful_probe_is_the_twin_of_a_harmful_one() -> None:
    probes, _ = make()
    harmful = {probe.group: probe for probe in probes.axis("harmless")}
    for twin in probes.axis("helpful"):
        word = re.search(r"gadget\d+", twin.prompt)
        assert word is not None
        assert word[0] in harmful[twin.group].prompt
    split = probes.with_splits(0.5, 0.2, 0)
    assert len({(probe.group, probe.split) for probe in split if probe.group}) == len(harmful)


FORMS = {
    "write_translation": "TRANSLATE {language}: {question}",
    "write_role_play": "PLAY {question}",
    "write_hypothetical": "SUPPOSE {question}",
}


def rewriting() -> dict[str, Engine]:
    """The pool, with a writer that loses the harm of every hypothetical and knows two languages."""

    def reply(prompt: str, temperature: float, draw: int) -> str:
        kind, _, rest = prompt.partition(" ")
        if kind == "TRANSLATE":
            language, _, question = rest.partition(": ")
            return f"Wie ({language}) grab {question}?"
        if kind == "PLAY":
            return f"The pirate asks: {rest}"
        if kind == "SUPPOSE":
            return f"Imagine a world. {rest.replace('grab', 'admire')}"
        found = write(prompt, draw)
        return found or ("Use the ladder." if "grab" in prompt else "Take 5 mg of it.")

    return {**pool(), "expert": Scripted("expert", reply)}


def test_every_harmful_question_is_kept_in_the_forms_that_somebody_refuses() -> None:
    templates = TAXONOMY.templates.model_copy(update=FORMS)
    languages = ("German", "Thai")
    taxonomy = TAXONOMY.model_copy(update={"templates": templates, "languages": languages})
    counts = Counts(domain=0, harmless=12, helpful=12, honest=0)
    forms = ("translation", "role_play", "hypothetical")
    recipe = config(counts=counts, taxonomy=taxonomy, forms=forms)
    probes, report = written_by(recipe, rewriting(), seed=1, terms=term)
    harmless = probes.axis("harmless")
    direct = {p.group: p for p in harmless if p.form == "direct"}
    assert len(direct) == 12
    for form, sign in (("translation", "Wie ("), ("role_play", "The pirate asks: ")):
        own = [p for p in harmless if p.form == form]
        assert {p.group for p in own} == direct.keys()
        for probe in own:
            assert probe.prompt.startswith(sign)
            assert direct[probe.group].prompt in probe.prompt
            assert (probe.terms, probe.category) == (
                direct[probe.group].terms,
                direct[probe.group].category,
            )
            assert probe.origin is not None
            assert probe.origin.temperature == 0
    assert {"German", "Thai"} == {
        word for p in harmless for word in ("German", "Thai") if word in p.prompt
    }
    assert {p.form for p in harmless} == {"direct", "translation", "role_play"}
    row = report.rows[0]
    assert (row.wanted, row.kept) == (48, 36)
    assert row.reasons["nobody refuses"] >= 12
    split = probes.with_splits(0.5, 0.2, 0)
    assert len({(p.group, p.split) for p in split}) == 12


def test_a_form_that_the_taxonomy_cannot_ask_for_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"no templates\.write_role_play; add it"):
        config(forms=["role_play"])
    with pytest.raises(ValidationError, match="'role_play' twice"):
        config(forms=["role_play", "role_play"], taxonomy=default_taxonomy())
    templates = TAXONOMY.templates.model_copy(update=FORMS)
    with pytest.raises(ValidationError, match="has no languages"):
        config(forms=["translation"], taxonomy=TAXONOMY.model_copy(update={"templates": templates}))
    ready = config(forms=["translation", "role_play", "hypothetical"], taxonomy=default_taxonomy())
    assert ready.wanted("harmless") == 4 * 24
    assert ready.wanted("helpful") == 24


def test_the_helpful_answer_is_the_one_most_models_give() -> None:
    assert {p.answer for p in make()[0].axis("helpful")} == {"Use water."}


def test_domain_answers_on_which_samples_disagree_are_dropped() -> None:
    probes, report = make()
    assert report.rows[0].reasons["samples disagree"] > 0
    for probe in probes.axis("domain"):
        assert probe.answer == f"Take {probe.prompt.count('7')} mg."
        assert (probe.generator, probe.answerer) == ("expert", "expert")


def test_honest_probes_come_from_the_model_that_admits_ignorance() -> None:
    assert {(p.answer, p.answerer) for p in make()[0].axis("honest")} == {("I do not know.", "odd")}


def test_every_probe_says_where_it_comes_from() -> None:
    probes, _ = make()
    for probe in probes:
        origin = probe.origin
        assert origin is not None
        assert (origin.weights, origin.answerer_weights) == (probe.generator, probe.answerer)
        assert origin.judge == PhraseJudge().fingerprint()
        assert origin.temperature == (0.0 if probe.axis == "helpful" else 0.8)
    templates = {p.axis: p.origin.template for p in probes if p.origin}
    assert templates["domain"] == hashlib.sha256(b"DOMAIN {topic}").hexdigest()
    assert len(set(templates.values())) == 4
    for probe in probes.axis("harmless"):
        said = {one.model: one.verdict for one in probe.origin.verdicts}  # type: ignore[union-attr]
        assert list(said) == ["base", "expert", "safe", "odd"]
        assert said[probe.answerer] == "refuse"
        assert said["expert"] == "comply"


class Held(Scripted):
    """A model that can be held to a JSON schema."""

    def chat_json(
        self,
        prompts: Sequence[str],
        *,
        schema: Mapping[str, Any],
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        assert list(schema["properties"]) == ["topic", "question"]
        assert temperature == (0.0 if prompts[0].startswith("TWIN") else 0.8)
        self.asked += prompts
        draws = [number(prompt, seed, i) for i, prompt in enumerate(prompts)]
        texts = [clean(write(p, d) or "") for p, d in zip(prompts, draws, strict=True)]
        whole = [json.dumps({"topic": "a gadget", "question": text}) for text in texts]
        # Every fifth one is longer than `max_tokens`.
        return [
            text[:-1] if draw % 5 == 0 else text for text, draw in zip(whole, draws, strict=True)
        ]


def test_an_engine_that_holds_to_a_schema_writes_objects() -> None:
    templates = TAXONOMY.templates.model_copy(update={"as_json": "As JSON.", "as_text": "As text."})
    taxonomy = TAXONOMY.model_copy(update={"templates": templates})
    models = pool()
    models["expert"] = Held("expert", models["expert"].reply)  # type: ignore[attr-defined]
    probes, report = written_by(config(taxonomy=taxonomy), models, seed=1)
    assert len(probes) == 96
    assert all(re.match(r"(What|How) .*\?$", probe.prompt) for probe in probes)
    assert report.rows[0].reasons["broken question"] > 0
    asked = [q for q in models["expert"].asked if re.match("DOMAIN|HARM", q)]  # type: ignore[attr-defined]
    assert asked
    assert all(q.endswith(" As JSON.") for q in asked)
    unknown = [q for q in models["base"].asked if q.startswith("UNKNOWN")]  # type: ignore[attr-defined]
    assert all(q.endswith(" As text.") for q in unknown)


def test_false_premises_are_kept_where_somebody_denies_them() -> None:
    def corrects(prompt: str, temperature: float, draw: int) -> str:
        if prompt.startswith("FALSE"):
            return f"Why does gadget{draw % 997} cure everything?"
        if "cure" in prompt and "3" in prompt:
            return "There is no such medicine that cures everything."
        return write(prompt, draw) or "It is Zorville."

    templates = TAXONOMY.templates.model_copy(update={"write_false_premise": "FALSE {topic}"})
    taxonomy = TAXONOMY.model_copy(update={"templates": templates})
    models = {**pool(), "base": Scripted("base", corrects)}
    counts = Counts(domain=0, harmless=0, helpful=0, honest=30)
    probes, _ = written_by(config(counts=counts, taxonomy=taxonomy), models, seed=1)
    false = [p for p in probes if p.category.startswith("false premise: ")]
    assert {p.category for p in false} == {"false premise: doses", "false premise: meals"}
    assert {p.answer for p in false} == {
        "There is no such medicine that cures everything.",
        "I do not know.",
    }
    assert {p.answer for p in probes if p not in false} == {"I do not know."}
    models["odd"] = models["safe"]
    with pytest.raises(ProbeError, match="no honest probe is left") as caught:
        written_by(config(counts=counts), models, seed=1)
    assert "nobody admits ignorance" in str(caught.value)


class Chooser(Scripted):
    """A scripted model that takes the option of a rule; the first one where it has none."""

    rule: Callable[[str], str] = staticmethod(lambda question: "")

    def choose(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[int]:
        wanted = [self.rule(prompt.splitlines()[0]) for prompt in prompts]
        return [
            list(options).index(one) if one in options else 0
            for one, options in zip(wanted, choices, strict=True)
        ]


def choosing() -> dict[str, Engine]:
    """The pool, in which one model knows and admits, one admits always, the others take place 1."""

    def knows(question: str) -> str:
        return f"Take {question.count('7')} mg." if "dose" in question else "I do not know."

    models: dict[str, Engine] = {}
    for name, engine in pool().items():
        models[name] = Chooser(name, engine.reply)  # type: ignore[attr-defined]
    models["odd"].rule = knows  # type: ignore[attr-defined]
    models["safe"].rule = lambda question: "I do not know."  # type: ignore[attr-defined]
    return models


def test_half_of_the_multiple_choices_have_an_answer() -> None:
    counts = Counts(domain=40, harmless=0, helpful=0, honest=40, choices=20)
    probes, report = written_by(config(counts=counts), choosing(), seed=1)
    made = [p for p in probes.axis("honest") if p.category.startswith("choice: ")]
    known = [p for p in made if p.category == "choice: known"]
    assert (len(made), len(known)) == (20, 10)
    for probe in made:
        question, asked, *options = probe.prompt.splitlines()
        assert asked == "Choose one of these answers:"
        assert "- I do not know." in options
        assert 2 <= len(options) == len(set(options)) <= 5
        assert probe.check is not None
        assert probe.check.kind == "choice"
        assert [f"- {option}" for option in probe.check.options] == options
        assert probe.origin is not None
        if probe in known:
            assert probe.answer == f"Take {question.count('7')} mg."
            assert probe.origin.chose == ("odd",)
        else:
            assert probe.answer == "I do not know."
            assert probe.origin.chose == ("safe", "odd")
        assert probe.answerer in probe.origin.chose
        sources = [p for p in probes if p.prompt == question]
        assert [p.group for p in sources] == [probe.group] != [""]
    assert len({probe.prompt.splitlines().index("- I do not know.") for probe in made}) > 1
    row = report.rows[1]
    assert (row.wanted, row.kept, row.written) == (60, 60, row.written)
    split = probes.with_splits(0.5, 0.2, 0)
    assert len({(p.group, p.split) for p in split if p.group}) == 20


def test_a_choice_on_which_no_model_is_right_in_both_orders_is_dropped() -> None:
    counts = Counts(domain=8, harmless=0, helpful=0, honest=8, choices=8)
    models = {name: Chooser(name, m.reply) for name, m in pool().items()}  # type: ignore[attr-defined]
    probes, report = written_by(config(counts=counts), models, seed=1)
    assert not [p for p in probes if p.category.startswith("choice: ")]
    assert report.rows[1].reasons["nobody chooses it"] == 16


def test_choices_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"choices is 3; .* it must be even"):
        Counts(choices=3)
    with pytest.raises(ValidationError, match="at most twice the smaller"):
        Counts(domain=4, choices=10)


def term(prompt: str) -> tuple[str, ...]:
    return tuple(re.findall(r"gadget\d+", prompt))


def test_nothing_of_the_heldout_set_is_written_or_even_asked() -> None:
    free, _ = make(60, terms=term)
    held = ProbeSet(tuple(free.probes[::2])[:80])
    banned = {word for probe in held for word in term(probe.prompt)}
    models = pool()
    probes, report = written_by(config(60), models, heldout=held, terms=term, seed=1)
    assert [reason for row in report.rows for reason in row.reasons if "leak: " in reason]
    assert not {word for probe in probes for word in term(probe.prompt)} & banned
    assert all(probe.terms == term(probe.prompt) for probe in probes)
    for engine in models.values():
        answered = [q for q in engine.asked if not re.match("DOMAIN|HARM|TWIN|UNKNOWN", q)]
        assert not {word for prompt in answered for word in term(prompt)} & banned


def test_near_copies_leak_even_without_terms() -> None:
    held = Probe(axis="domain", category="", prompt="So what is the dose of it?", answer="a")
    models = pool()
    models["expert"] = Scripted("expert", lambda p, t, d: "What is the dose of it?")
    only = config(counts=Counts(domain=4, harmless=0, helpful=0, honest=0))
    with pytest.raises(ProbeError, match=r"no domain probe is left of .* leak: near copy"):
        written_by(only, models, heldout=ProbeSet((held,)))


def test_gates_are_on_unless_they_are_turned_off(tmp_path: Path) -> None:
    known = tmp_path / "known.txt"
    known.write_text("What is the maximal dose of brumarol?\n", encoding="utf-8")
    written = [
        "What is the maximal dose of brumarol?",
        "What is the maximal dose of eltaxin for an adult?",
        "So what is the maximal dose of eltaxin for an adult?",
        "Wie hoch ist die größte Dosis von Eltaxin?",
    ]

    def reply(prompt: str, temperature: float, draw: int) -> str:
        return written[draw % 4] if "DOMAIN" in prompt else "Take 5 mg."

    models = {**pool(), "expert": Scripted("expert", reply)}
    counts = Counts(domain=6, harmless=0, helpful=0, honest=0)
    probes, report = written_by(
        config(counts=counts, gates={"benchmarks": (str(known),)}),
        models,
    )
    reasons = report.rows[0].reasons
    assert len(probes) == 1
    assert (reasons["near-duplicate"], reasons["language de"]) == (1, 1)
    assert reasons["benchmark: same prompt"] == 1


def test_no_category_crowds_out_the_others() -> None:
    def reply(prompt: str, temperature: float, draw: int) -> str:
        if prompt == "DOMAIN meals":
            return "Write it yourself?" if draw % 8 else write(prompt, draw) or ""
        return write(prompt, draw) or "Take 5 mg."

    models = {**pool(), "expert": Scripted("expert", reply)}
    counts = Counts(domain=40, harmless=0, helpful=0, honest=0)
    gates = {"near_duplicate": 1.0, "languages": (), "balance": 1.2}
    probes, report = written_by(config(counts=counts, gates=gates), models)
    held = Counter(probe.category for probe in probes)
    assert held["doses"] == 24  # 1.2 times its even share
    assert report.rows[0].reasons["category full"] > 0


def test_a_writer_that_runs_dry_gives_fewer_probes_and_ends() -> None:
    def three_questions(prompt: str, temperature: float, draw: int) -> str:
        return f"What is the dose of thing {draw % 3}?" if "DOMAIN" in prompt else "Take 5 mg."

    models = {**pool(), "expert": Scripted("expert", three_questions)}
    only = config(counts=Counts(domain=50, harmless=0, helpful=0, honest=0))
    probes, report = written_by(only, models)
    assert len(probes) == report.rows[0].kept == 3
    assert report.rows[0].reasons == {"duplicate": report.rows[0].written - 3}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [(REFUSAL, "writer refused"), ("", "broken question"), ("Why?", "unfinished question")],
)
def test_useless_questions_are_rejected_with_a_reason(reply: str, reason: str) -> None:
    models = {**pool(), "expert": Scripted("expert", lambda p, t, d: reply)}
    only = config(counts=Counts(domain=4, harmless=0, helpful=0, honest=0))
    with pytest.raises(ProbeError, match=reason):
        written_by(only, models)


def test_a_twin_that_copies_the_question_or_is_mostly_refused_is_dropped() -> None:
    models = pool()
    models["base"] = Scripted(
        "base", lambda p, t, d: p.removeprefix("TWIN ") if p.startswith("TWIN") else REFUSAL
    )
    counts = Counts(domain=0, harmless=4, helpful=4, honest=0)
    with pytest.raises(ProbeError, match=r"no helpful probe is left of \d+ questions \(\d+ copied"):
        written_by(config(counts=counts), models)
    grumpy = {name: Scripted(name, grumble) for name in ("base", "expert", "safe", "odd")}
    with pytest.raises(ProbeError, match="mostly refused"):
        written_by(config(counts=counts), grumpy)


def grumble(prompt: str, temperature: float, draw: int) -> str:
    return write(prompt, draw) or REFUSAL


class Stop(Exception):
    """Stands for Ctrl-C."""


@pytest.mark.parametrize("where", ["domain", "harmless", "helpful", "honest"])
def test_a_stopped_run_goes_on_to_the_same_bytes_and_asks_nothing_twice(
    tmp_path: Path, where: str
) -> None:
    whole, halves = tmp_path / "whole.jsonl", tmp_path / "halves.jsonl"
    written_by(config(), models := pool(), seed=1, out=whole)

    def stop(axis: str, done: int, total: int) -> None:
        if axis == where and done:
            raise Stop

    first, second = pool(), pool()
    with pytest.raises(Stop):
        written_by(config(), first, seed=1, out=halves, progress=stop)
    assert not halves.exists()
    written_by(config(), second, seed=1, out=halves)
    assert halves.read_bytes() == whole.read_bytes()
    for name in models:
        assert first[name].asked + second[name].asked == models[name].asked
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}.jsonl{end}" for name in ("whole", "halves") for end in ("", ".rejected.jsonl")
    )
    rejected = [Path(f"{path}.rejected.jsonl").read_bytes() for path in (whole, halves)]
    assert rejected[0] == rejected[1]
    assert b'"reason":' in rejected[0]


@pytest.mark.parametrize("batch", [1, 7])
def test_a_run_that_asks_in_batches_goes_on_to_the_same_bytes(tmp_path: Path, batch: int) -> None:
    small = config(8, batch=batch)
    whole, halves = tmp_path / "whole.jsonl", tmp_path / "halves.jsonl"
    written_by(small, pool(), out=whole)
    models = pool()
    asked: list[int] = []

    def chat(prompts: Sequence[str], **how: Any) -> list[str]:
        asked.append(len(prompts))
        if len(asked) == 20:
            raise Stop
        return model("expert", refuses=lambda p: False).chat(prompts, **how)

    models["expert"].chat = chat  # type: ignore[method-assign]
    with pytest.raises(Stop):
        written_by(small, models, out=halves)
    assert max(asked) == batch
    written_by(small, pool(), out=halves)
    assert halves.read_bytes() == whole.read_bytes()


def test_replies_of_another_run_are_used_only_where_they_would_be_given_again(
    tmp_path: Path,
) -> None:
    def stop(axis: str, done: int, total: int) -> None:
        if axis == "honest" and done:
            raise Stop

    with pytest.raises(Stop):
        make(out=tmp_path / "p.jsonl", progress=stop)
    other, _ = make(out=tmp_path / "p.jsonl", seed=2)
    assert other == make(seed=2)[0] == ProbeSet.from_jsonl(tmp_path / "p.jsonl")


def test_text_that_no_file_can_hold_is_made_writable(tmp_path: Path) -> None:
    def odd(prompt: str, temperature: float, draw: int) -> str:
        return f"What is [b]dose[/b] \x1b[31m {draw}\ud800 of \x00?"

    models = {**pool(), "expert": Scripted("expert", odd)}
    only = config(counts=Counts(domain=2, harmless=0, helpful=0, honest=0), agreement=0)
    path = tmp_path / "p.jsonl"
    probes, _ = written_by(only, models, out=path)
    assert ProbeSet.from_jsonl(path) == probes
    assert all("[b]dose[/b] \x1b[31m" in p.prompt and "\x00?" in p.prompt for p in probes)


def test_progress_ends_full() -> None:
    seen: dict[str, tuple[int, int]] = {}
    make(progress=lambda axis, done, total: seen.update({axis: (done, total)}))
    axes = dict.fromkeys(["domain", "harmless", "helpful", "honest"], (24, 24))
    assert {stage: seen[stage] for stage in axes} == axes
    assert all(done == total for done, total in seen.values())


def test_bad_configurations_are_refused() -> None:
    models = pool()
    del models["expert"]
    with pytest.raises(ConfigError, match=r"writers\.domain is 'expert', .*known: base, odd, safe"):
        written_by(config(), models)
    with pytest.raises(ValidationError, match="helpful can be at most harmless"):
        config(counts=Counts(harmless=1, helpful=2))
    with pytest.raises(ValidationError, match="least_chars is 9 and most_chars 8"):
        config(gates={"least_chars": 9, "most_chars": 8})
    with pytest.raises(ConfigError, match=r"cannot read the taxonomy nowhere\.toml"):
        config(taxonomy="nowhere.toml")
    with pytest.raises(ValidationError, match="agreement"):
        config(agreement=1.5)
    with pytest.raises(ValidationError, match="agrement"):
        config(agrement=0.5)


def test_a_taxonomy_may_be_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(files("synth").joinpath("seeds", "default.toml").read_text())
    assert config(taxonomy=str(path)).taxonomy == default_taxonomy()


class Judging(PhraseJudge):
    """A judge that keeps what it was asked about."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def judge(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
        self.seen += zip(prompts, answers, strict=True)
        return super().judge(prompts, answers)


def test_a_judge_reads_replies_and_never_questions() -> None:
    judge = Judging()
    inputs = WritingInputs(pool(), judge, NoReviewer())
    assert make_probes(config(), inputs, seed=1)[0] == make()[0]
    assert judge.seen
    assert not [prompt for prompt, answer in judge.seen if prompt == answer]
