"""Models and a judge that ask in batches and keep each batch in the work file. Ours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from synth.engines.base import Engine, SchemaEngine
from synth.judges.verdict import Judge, Verdict, check_counts
from synth.writing.workfile import WorkFile


class RecordedEngine:
    """What the pipeline asks of a model of the pool.

    Args:
        engine: the model; its weights must not change.
        work: where replies are kept.
        batch: messages asked at once, at least 1.
    """

    def __init__(self, engine: Engine, work: WorkFile, batch: int) -> None:
        self._engine, self._work, self._batch = engine, work, batch
        self.weights = engine.fingerprint()

    def chat(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """One reply for each prompt; see `Engine.chat`."""

        def ask(part: Sequence[str], seed: int) -> list[str]:
            return self._engine.chat(
                part, max_tokens=max_tokens, temperature=temperature, seed=seed
            )

        return self._ask(["chat", max_tokens, temperature], prompts, seed, ask)

    @property
    def structured(self) -> bool:
        """Can the model be held to a schema?"""
        return isinstance(self._engine, SchemaEngine)

    def chat_json(
        self,
        prompts: Sequence[str],
        *,
        schema: Mapping[str, Any],
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """Replies held to a schema; see `SchemaEngine.chat_json`. Only if `structured`."""
        engine = self._engine
        assert isinstance(engine, SchemaEngine)  # the caller asked

        def ask(part: Sequence[str], seed: int) -> list[str]:
            return engine.chat_json(
                part, schema=schema, max_tokens=max_tokens, temperature=temperature, seed=seed
            )

        return self._ask(["json", schema, max_tokens, temperature], prompts, seed, ask)

    def choose(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[int]:
        """For each prompt the index of the likeliest choice; see `Engine.choose`."""
        picks: list[int] = []
        for start in range(0, len(prompts), self._batch):
            part = slice(start, start + self._batch)
            asked, options = list(prompts[part]), [list(one) for one in choices[part]]
            key = [self.weights, "choose", asked, options]
            picks += map(int, self._work.recall(key, partial(self._choose, asked, options)))
        return picks

    def _choose(self, prompts: list[str], choices: list[list[str]]) -> list[str]:
        return [str(pick) for pick in self._engine.choose(prompts, choices)]

    def _ask(
        self,
        kind: list[Any],
        prompts: Sequence[str],
        seed: int,
        ask: Callable[[Sequence[str], int], list[str]],
    ) -> list[str]:
        replies: list[str] = []
        for start in range(0, len(prompts), self._batch):
            part = list(prompts[start : start + self._batch])
            # A seed of its own, because samples of repeated prompts differ within a batch only.
            own = seed if start == 0 else _seed(seed, start)
            key = [self.weights, *kind, own, part]
            replies += self._work.recall(key, partial(ask, part, own))
        return replies


class RecordedJudge:
    """A `Judge` whose verdicts are kept.

    Args:
        judge: gives the verdicts.
        work: where they are kept.
        batch: answers judged at once, at least 1.
    """

    def __init__(self, judge: Judge, work: WorkFile, batch: int) -> None:
        self._judge, self._work, self._batch = judge, work, batch
        self._print = judge.fingerprint()

    def judge(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
        """One verdict for each answer; see `Judge.judge`."""
        check_counts(prompts, answers)
        verdicts: list[Verdict] = []
        for start in range(0, len(prompts), self._batch):
            part = slice(start, start + self._batch)
            asked, said = list(prompts[part]), list(answers[part])
            key = [self._print, asked, said]
            verdicts += map(
                Verdict, self._work.recall(key, partial(self._judge.judge, asked, said))
            )
        return verdicts

    def fingerprint(self) -> str:
        """That of the judge."""
        return self._print


def _seed(*parts: int) -> int:
    """A seed in [0, 2^31)."""
    text = json.dumps(parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
