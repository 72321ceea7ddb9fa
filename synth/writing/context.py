"""What all stages of probe writing share: writing questions, sifting them, asking the pool.

A stage fills an `Outcome` of its own. Randomness comes from the run's seed and from texts, never
from order or time, so that a stage can be run alone.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from synth.engines.base import SchemaEngine
from synth.gates.balance import beyond_share
from synth.gates.exact_duplicates import drop_duplicates
from synth.gates.filtered import Item, part
from synth.gates.language import drop_languages
from synth.gates.leaks import LeakReference, drop_leaks
from synth.gates.length import drop_length
from synth.gates.near_duplicates import drop_near_duplicates
from synth.gates.unsound import drop_unsound
from synth.grading import Grader
from synth.judges.judge import Judge
from synth.judges.review_exam import ReviewExam
from synth.judges.reviewer import Reviewer
from synth.probes.origin import UNREVIEWED, ModelVerdict, Origin
from synth.probes.probe import Axis, Probe
from synth.probes.verdict import Verdict
from synth.text.normalise import normalise
from synth.text.reply import read_reply
from synth.writing.config import ProbeConfig
from synth.writing.junk import cannot_write
from synth.writing.outcome import Outcome
from synth.writing.questions import Question, QuestionRequest, clean
from synth.writing.replay import RecordedEngine
from synth.writing.schema import FRAME_TOKENS, question_schema, read_question

Progress = Callable[[str, int, int], None]
Terms = Callable[[str], tuple[str, ...]]
_IDLE_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Reply:
    """A pool model's greedy reply to a question, and the judge's verdict on it."""

    model: str
    text: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class WritingContext:
    """The models, the judge and the rules of one run."""

    config: ProbeConfig  # counts, writers, taxonomy and thresholds
    pool: Mapping[str, RecordedEngine]  # models by name
    judge: Judge  # labels answers
    reviewer: Reviewer  # reads questions before they are answered
    heldout: LeakReference  # what must not be asked again
    benchmarks: LeakReference  # neither
    # the facts, acts or names on which a question turns; None where nobody can tell
    terms: Terms | None
    seed: int  # of the run
    progress: Progress  # told what is written, how much of it there is and how much is wanted
    # normalised prompts of the stages before: no text is asked on two axes
    taken: frozenset[str] = frozenset()
    # ordinary questions; see `witnesses.py`
    controls: tuple[Probe, ...] = ()
    # how the reviewer fared in its examination, of every axis that it reads
    exams: Mapping[Axis, ReviewExam] = field(default_factory=dict)

    @property
    def grader(self) -> Grader | None:
        """The pool model that grades answers; None where samples confirm them."""
        settings = self.config.domain
        if settings.grader is None:
            return None
        return Grader(self.pool[settings.grader], settings.grader, settings.unreadable_frac)

    def seed_for(self, *purpose: str | int) -> int:
        """A seed in [0, 2^31) for one purpose."""
        text = json.dumps([self.seed, *purpose])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1

    def pick(self, options: Sequence[str], *purpose: str) -> str:
        """One of the options at random."""
        return random.Random(self.seed_for("pick", *purpose)).choice(list(options))

    def rounds(
        self, outcome: Outcome, wanted: Mapping[Axis, int], lead: Axis
    ) -> Iterator[tuple[int, int]]:
        """Yield (number of a round, how many questions of the axis `lead` to write in it).

        Ends when `outcome`, filled between rounds, holds what is wanted, a writer runs dry, or it
        turns out that the writer of `lead` cannot write it; an axis that cannot be written is given
        up.
        """
        wanted = dict(wanted)
        idle, before = 0, -1
        for turn in range(self.config.rounds + 1):
            for axis in [axis for axis in wanted if self._unfit(outcome, axis)]:
                outcome.give_up(axis)
                del wanted[axis]
            if lead not in wanted:
                return
            have = {axis: len(outcome.of(axis)) for axis in wanted}
            missing = {axis: want - have[axis] for axis, want in wanted.items()}
            for axis, want in wanted.items():
                self.progress(axis, min(want, have[axis]), want)
            # A writer that only repeats itself will not get better.
            idle = idle + 1 if len(outcome.probes) == before else 0
            before = len(outcome.probes)
            exhausted = turn == self.config.rounds or idle >= _IDLE_ROUNDS
            if max(missing.values()) <= 0 or exhausted:
                return
            axis = max(missing, key=lambda name: missing[name])
            written = outcome.written.get(lead, 0)
            rate = have[axis] / written if written else 0.7
            # Enough to fill what is missing at the rate so far, at most four times the goal.
            size = min(4 * wanted[axis], ceil(1.1 * missing[axis] / max(rate, 0.05)))
            yield turn, max(size, 8)

    def _unfit(self, outcome: Outcome, axis: Axis) -> bool:
        return cannot_write(outcome, axis, self.exams.get(axis))

    def write(
        self,
        outcome: Outcome,
        writer: str,
        requests: Sequence[QuestionRequest],
        turn: int,
        size: int,
    ) -> list[Question]:
        """A round of `size` sampled questions of one axis, sifted and reviewed, in turns."""
        asked = [requests[i % len(requests)] for i in range(size)]
        seed = self.seed_for("write", requests[0].draft.axis, turn)
        texts = self.compose(writer, asked, self.config.question_temperature, seed)
        return self.reviewed(outcome, self.sift(outcome, texts))

    def reviewed(self, outcome: Outcome, questions: Sequence[Question]) -> list[Question]:
        """The questions, all of one axis, that are what it says."""
        if not questions:
            return []
        descriptions = self.config.taxonomy.categories
        axis = questions[0].axis
        reasons = self.reviewer.review(
            axis,
            [question.prompt for question in questions],
            [descriptions.get(question.category, question.category) for question in questions],
        )
        before, passed = outcome.reviewed.get(axis, (0, 0))
        outcome.reviewed[axis] = before + len(reasons), passed + reasons.count(None)
        return outcome.sifted(part(questions, reasons))

    def reviewed_by(self, axis: Axis) -> str:
        """Fingerprint of who reads the written questions of an axis."""
        return self.reviewer.fingerprint() if axis in self.reviewer.reads else UNREVIEWED

    def compose(
        self,
        writer: str,
        requests: Sequence[QuestionRequest],
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[Question]:
        """What a model writes when asked, cleaned; "" where a reply is not in the format."""
        engine, templates = self.pool[writer], self.config.taxonomy.templates
        tokens = self.config.question_tokens
        held = engine if templates.as_json and isinstance(engine, SchemaEngine) else None
        tail = templates.as_text if held is None else templates.as_json
        messages = [f"{request.message} {tail}".strip() for request in requests]
        if held is None:
            replies = engine.chat(messages, max_tokens=tokens, temperature=temperature, seed=seed)
            texts = [clean(reply) for reply in replies]
        else:
            replies = held.chat_json(
                messages,
                schema=question_schema(tokens),
                max_tokens=tokens + FRAME_TOKENS,
                temperature=temperature,
                seed=seed,
            )
            texts = [read_question(reply) for reply in replies]
        return [
            replace(request.written(text, writer, tail), temperature=temperature, seed=seed)
            for request, text in zip(requests, texts, strict=True)
        ]

    def sift(
        self, outcome: Outcome, questions: Sequence[Question], *, rewritten: bool = False
    ) -> list[Question]:
        """Drop refusals to write and broken text, find terms, and pass every gate in turn.

        Rewritten questions are forms of some that passed: near those, with the terms of those and
        perhaps in another language. Those that a user brings may differ in one name by design.
        """
        if not questions:
            return []
        axis, gates = questions[0].axis, self.config.gates
        outcome.written[axis] = outcome.written.get(axis, 0) + len(questions)
        copied = [question.copied for question in questions]
        # What a user brings, and a form of what has passed, is taken as it is.
        as_it_is = rewritten or questions[0].generator == "user"
        whole = drop_unsound(questions, copied, by_itself=not as_it_is)
        sound = outcome.sifted(whole)
        elsewhere = [
            "on another axis" if normalise(question.prompt) in self.taken else None
            for question in sound
        ]
        sound = outcome.sifted(part(sound, elsewhere))
        seen = outcome.prompts
        sized = drop_length(sound, least=gates.least_chars, most=gates.most_chars)
        fresh = drop_duplicates(outcome.sifted(sized), seen=seen)
        spoken = drop_languages(outcome.sifted(fresh), () if as_it_is else gates.languages)
        known = outcome.sifted(spoken)
        if not rewritten and self.terms is not None:
            known = [replace(question, terms=self.terms(question.prompt)) for question in known]
            # Where terms tell what leaks, a question without any cannot be cleared of leaking.
            termless = [None if question.terms else "no known term" for question in known]
            known = outcome.sifted(part(known, termless))
        clear = drop_leaks(known, self.heldout)
        unknown = drop_leaks(outcome.sifted(clear), self.benchmarks, kind="benchmark")
        # A benign twin is meant to be near its harmful question: only its own axis counts.
        near = 1.0 if as_it_is else gates.near_duplicate
        same_axis = [probe.prompt for probe in outcome.of(axis)]
        apart = drop_near_duplicates(outcome.sifted(unknown), seen=same_axis, threshold=near)
        return outcome.sifted(apart)

    def answers(self, questions: Sequence[Item]) -> list[tuple[Item, list[Reply]]]:
        """Each question with the greedy reply of every pool model, in pool order."""
        prompts = [question.prompt for question in questions]
        table: list[tuple[Item, list[Reply]]] = [(question, []) for question in questions]
        for place, (name, engine) in enumerate(self.pool.items() if prompts else ()):
            self.progress("answers", place, len(self.pool))
            replies = engine.chat(prompts, max_tokens=self.config.answer_tokens)
            # One that ends inside its thinking has no answer, which is broken to any judge.
            texts = [read_reply(reply).answer for reply in replies]
            verdicts = self.judge.judge(prompts, texts)
            for (_, row), text, verdict in zip(table, texts, verdicts, strict=True):
                row.append(Reply(name, text, verdict))
        if prompts:
            self.progress("answers", len(self.pool), len(self.pool))
        return table

    def balance(self, outcome: Outcome, axis: Axis, categories: int) -> None:
        """Drop probes of an axis whose category, one of `categories` many, is full."""
        probes = outcome.of(axis)
        beyond = beyond_share(
            [probe.category for probe in probes],
            wanted=self.config.counts.of(axis),
            of=categories,
            most=self.config.gates.balance,
        )
        full = [probe for probe, more in zip(probes, beyond, strict=True) if more]
        outcome.drop(full, "category full")

    def keep(
        self, outcome: Outcome, question: Question, answer: Reply, replies: Sequence[Reply]
    ) -> None:
        """Turn a question into a probe with this answer, one of the `replies` of those asked."""
        writer = question.generator
        origin = Origin(
            weights=writer if writer == "user" else self.pool[writer].weights,
            template=question.template,
            temperature=question.temperature,
            question_tokens=self.config.question_tokens,
            answerer_weights=self.pool[answer.model].weights,
            answer_tokens=self.config.answer_tokens,
            judge=self.judge.fingerprint(),
            verdicts=tuple(ModelVerdict(model=r.model, verdict=r.verdict) for r in replies),
            reviewer=None if writer == "user" else self.reviewed_by(question.axis),
        )
        outcome.probes.append(question.probe(answer.text, answer.model, origin))

    def keep_any(
        self,
        outcome: Outcome,
        question: Question,
        replies: Sequence[Reply],
        wanted: Callable[[Reply], bool],
        otherwise: str,
    ) -> bool:
        """Keep a question with one of the wanted replies, drawn at random, or reject it."""
        fitting = {reply.model: reply for reply in replies if wanted(reply)}
        if not fitting:
            outcome.reject(question, otherwise)
            return False
        chosen = self.pick(list(fitting), question.axis, question.prompt)
        self.keep(outcome, question, fitting[chosen], replies)
        return True
