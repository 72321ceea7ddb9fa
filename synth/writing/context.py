"""What all stages of the pipeline share: writing questions, sifting them, asking the pool.

A stage adds to an `Outcome`; nothing is thrown away without a reason. All randomness comes from
the run's seed and from texts, never from order or time, so that a stage can be run again alone.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from synth.gates.balance import beyond_share
from synth.gates.duplicates import drop_duplicates
from synth.gates.filtered import Text
from synth.gates.language import drop_languages
from synth.gates.leaks import Reference, drop_leaks
from synth.gates.length import drop_length
from synth.gates.near import drop_near_duplicates
from synth.judges.verdict import Judge, Verdict
from synth.probes.origin import Origin, Said
from synth.probes.probe import Axis, Probe
from synth.writing.config import ProbeConfig
from synth.writing.questions import Ask, Question, Written, clean
from synth.writing.replay import RecordedEngine
from synth.writing.rounds import Rounds
from synth.writing.schema import FRAME_TOKENS, question_schema, read_question

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A question that did not become a probe, and why."""

    axis: Axis
    category: str
    prompt: str
    reason: str


@dataclass(slots=True)
class Outcome:
    """What a stage has so far: probes in the order they were kept, rejects, questions written."""

    probes: list[Probe] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    written: dict[Axis, int] = field(default_factory=dict)

    def reject(self, question: Question, reason: str) -> None:
        """Record that a question was dropped."""
        dropped = Rejected(question.axis, question.category, question.prompt, reason)
        self.rejected.append(dropped)

    def drop(self, probes: Sequence[Probe], reason: str) -> None:
        """Turn kept probes into rejects."""
        gone = {probe.id for probe in probes}
        self.probes = [probe for probe in self.probes if probe.id not in gone]
        self.rejected += [Rejected(p.axis, p.category, p.prompt, reason) for p in probes]

    def cut(self, axis: Axis, size: int) -> None:
        """Drop good probes of an axis beyond the first `size`."""
        self.drop([probe for probe in self.probes if probe.axis == axis][size:], "surplus")

    @property
    def prompts(self) -> list[str]:
        """Every prompt so far, kept or rejected: none is looked at twice, a twin is no copy."""
        dropped = [rejected.prompt for rejected in self.rejected]
        return [prompt for prompt in (*(p.prompt for p in self.probes), *dropped) if prompt]

    def count(self, axis: Axis) -> int:
        """Probes of the axis so far."""
        return sum(probe.axis == axis for probe in self.probes)


@dataclass(frozen=True, slots=True)
class Workshop:
    """The models, the judge and the rules of one run."""

    config: ProbeConfig
    pool: Mapping[str, RecordedEngine]
    judge: Judge
    heldout: tuple[Probe, ...]
    benchmarks: tuple[str, ...]
    terms: Callable[[str], tuple[str, ...]] | None
    seed: int
    progress: Progress
    _held: Reference = field(init=False, repr=False)
    _benched: Reference = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_held", Reference(self.heldout))
        object.__setattr__(self, "_benched", Reference([Text(text) for text in self.benchmarks]))

    def number(self, *key: str | int) -> int:
        """A seed in [0, 2^31) for one purpose."""
        text = json.dumps([self.seed, *key])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1

    def pick(self, options: Sequence[str], *key: str) -> str:
        """One of the options at random."""
        return random.Random(self.number("pick", *key)).choice(list(options))

    def write(
        self, out: Outcome, axis: Axis, writer: str, asks: Sequence[Ask], turn: int
    ) -> list[Question]:
        """One round of questions, cleaned and sifted.

        Args:
            out: gets the rejects and the number written.
            axis: of the questions.
            writer: name of the pool model.
            asks: one question each.
            turn: number of the round; other rounds give other samples.
        """
        seed = self.number("write", axis, turn)
        texts = self.compose(writer, asks, self.config.question_temperature, seed)
        questions = [
            Question(axis, asked.category, writer, text, passage=asked.passage)
            for asked, text in zip(asks, texts, strict=True)
        ]
        return self.sift(out, axis, questions)

    def compose(
        self, writer: str, asks: Sequence[Ask], temperature: float = 0.0, seed: int = 0
    ) -> list[Written]:
        """What a model writes when asked, cleaned; "" where a reply is not in the format."""
        engine, templates = self.pool[writer], self.config.taxonomy.templates
        tokens = self.config.question_tokens
        structured = bool(templates.as_json) and engine.structured
        tail = templates.as_json if structured else templates.as_text
        messages = [f"{asked.message} {tail}".strip() for asked in asks]
        if structured:
            replies = engine.chat_json(
                messages,
                schema=question_schema(tokens),
                max_tokens=tokens + FRAME_TOKENS,
                temperature=temperature,
                seed=seed,
            )
            texts = [read_question(reply) for reply in replies]
        else:
            replies = engine.chat(messages, max_tokens=tokens, temperature=temperature, seed=seed)
            texts = [clean(reply) for reply in replies]
        return [
            Written(text, _hash(f"{asked.template} {tail}".strip()), temperature, seed)
            for asked, text in zip(asks, texts, strict=True)
        ]

    def sift(
        self, out: Outcome, axis: Axis, questions: Sequence[Question], *, rewritten: bool = False
    ) -> list[Question]:
        """Drop refusals to write and broken text, find terms, and pass every gate in turn.

        Args:
            out: gets the rejects and the number written.
            axis: of the questions.
            questions: to be sifted.
            rewritten: they are forms of questions that passed: near those, with the terms of those
                and perhaps in another language.
        """
        out.written[axis] = out.written.get(axis, 0) + len(questions)
        prompts = [question.prompt for question in questions]
        said = self.judge.judge(prompts, prompts)
        sound: list[Question] = []
        for question, verdict in zip(questions, said, strict=True):
            if verdict == Verdict.DEGENERATE:
                out.reject(question, "broken question")
            elif verdict == Verdict.REFUSE and "?" not in question.prompt:
                out.reject(question, "writer refused")
            else:
                sound.append(question)
        gates = self.config.gates
        sized = drop_length(sound, least=gates.least_chars, most=gates.most_chars)
        fresh = drop_duplicates(sized.kept, seen=out.prompts)
        spoken = drop_languages(fresh.kept, () if rewritten else gates.languages)
        known = list(spoken.kept) if rewritten else self._with_terms(out, spoken.kept)
        clear = drop_leaks(known, self._held)
        unknown = drop_leaks(clear.kept, self._benched, kind="benchmark")
        # A benign twin is meant to be near its harmful question: only its own axis counts.
        own = [probe.prompt for probe in out.probes if probe.axis == axis]
        near = 1.0 if rewritten else gates.near_duplicate
        apart = drop_near_duplicates(unknown.kept, seen=own, threshold=near)
        for gate in (sized, fresh, spoken, clear, unknown, apart):
            for dropped in gate.dropped:
                out.reject(dropped.item, dropped.reason)
        return list(apart.kept)

    def _with_terms(self, out: Outcome, questions: Sequence[Question]) -> list[Question]:
        if self.terms is None:
            return list(questions)
        known = [replace(question, terms=self.terms(question.prompt)) for question in questions]
        for question in known:
            # Where terms tell what leaks, a question without any cannot be cleared of leaking.
            if not question.terms:
                out.reject(question, "no known term")
        return [question for question in known if question.terms]

    def answers(self, prompts: Sequence[str]) -> list[dict[str, tuple[str, Verdict]]]:
        """Greedy answer and verdict of every pool model, in pool order, for each prompt."""
        table: list[dict[str, tuple[str, Verdict]]] = [{} for _ in prompts]
        for name, engine in self.pool.items():
            replies = engine.chat(prompts, max_tokens=self.config.answer_tokens)
            said = self.judge.judge(prompts, replies)
            for row, reply, verdict in zip(table, replies, said, strict=True):
                row[name] = (reply, verdict)
        return table

    def balance(self, out: Outcome, axis: Axis, categories: int) -> None:
        """Drop probes of an axis whose category is full.

        Args:
            out: whose probes are looked at.
            axis: of the probes.
            categories: that questions of the axis are asked for.
        """
        own = [probe for probe in out.probes if probe.axis == axis]
        beyond = beyond_share(
            [probe.category for probe in own],
            wanted=self.config.counts.of(axis),
            of=categories,
            most=self.config.gates.balance,
        )
        full = [probe for probe, more in zip(own, beyond, strict=True) if more]
        out.drop(full, "category full")

    def keep(
        self,
        out: Outcome,
        question: Question,
        answer: str,
        answerer: str,
        verdicts: Mapping[str, Verdict],
    ) -> None:
        """Turn a question into a probe.

        Args:
            out: gets the probe.
            question: that is kept.
            answer: the wanted one.
            answerer: pool model that gave it.
            verdicts: on the answers of all models that were asked.
        """
        written, config = question.written, self.config
        origin = Origin(
            weights=self.pool[question.generator].weights,
            template=written.template,
            temperature=written.temperature,
            question_tokens=config.question_tokens,
            answerer_weights=self.pool[answerer].weights,
            answer_tokens=config.answer_tokens,
            judge=self.judge.fingerprint(),
            verdicts=tuple(Said(model=name, verdict=said) for name, said in verdicts.items()),
        )
        probe = Probe(
            axis=question.axis,
            category=question.category,
            prompt=question.prompt,
            answer=answer,
            generator=question.generator,
            answerer=answerer,
            seed=written.seed,
            group=question.group,
            terms=question.terms,
            form=question.form,
            origin=origin,
        )
        out.probes.append(probe)

    def rounds(self, out: Outcome, wanted: Mapping[Axis, int], lead: Axis) -> Rounds:
        """Rounds of question writing until every wanted axis is full."""
        return Rounds(self, out, wanted, lead)


def verdicts(row: Mapping[str, tuple[str, Verdict]]) -> dict[str, Verdict]:
    """The verdicts of one row of `Workshop.answers`."""
    return {name: verdict for name, (_, verdict) in row.items()}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
