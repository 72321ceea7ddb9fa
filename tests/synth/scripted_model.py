"""A model that is a function of what it is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from synth import ProbeSet
from synth.engines import Engine, Likelihood
from synth.judges import PhraseJudge
from synth.judges.reviewer import NoReviewer, Reviewer
from synth.writing.config import ProbeConfig
from synth.writing.context import Terms
from synth.writing.pipeline import ProbeReport, WritingInputs, make_probes

Reply = Callable[[str, float, int], str]


class Scripted:
    """A model that is a function of prompt, temperature and a number drawn from the seed."""

    def __init__(self, name: str, reply: Reply) -> None:
        self.name, self.reply, self.asked = name, reply, []

    asked: list[str]

    def chat(
        self,
        prompts: Sequence[str],
        *,
        system: str | None = None,
        max_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        self.asked += prompts
        return [
            self.reply(prompt, temperature, number(prompt, seed, i) if temperature else 0)
            for i, prompt in enumerate(prompts)
        ]

    def choose(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[int]:
        return [0 for _ in prompts]

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        return [Likelihood(-1.0, 1, True) for _ in pairs]

    def load_weights(self, state: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def fingerprint(self) -> str:
        return self.name


def number(*parts: object) -> int:
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:8], 16)


def written_by(
    config: ProbeConfig,
    pool: Mapping[str, Engine],
    *,
    heldout: ProbeSet | None = None,
    terms: Terms | None = None,
    reviewer: Reviewer | None = None,
    **run: Any,
) -> tuple[ProbeSet, ProbeReport]:
    """Probes of scripted models, judged by phrases."""
    inputs = WritingInputs(pool, PhraseJudge(), reviewer or NoReviewer(), heldout, terms)
    return make_probes(config, inputs, **run)
