"""[probes]: where probes come from, how they are split, and who judges the replies."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from safemerge.errors import BadInput
from search.config.section import Section
from synth.judges import parse_judge
from synth.writing.config import ProbeConfig


class ProbesConfig(Section):
    """Where probes come from and how they are split.

    Args:
        path: JSON Lines of search probes.
        heldout: JSON Lines of held-out probes; None splits `heldout_frac` off `path`.
        heldout_frac: share of the probe groups held out where there is no `heldout` file.
        validation_frac: share of the search probes kept for choosing among candidates.
        likelihood: what a trial's score of a probe is: the likelihood of the whole answer, right
            for short answers that turn on one word, or the mean likelihood of its tokens, right
            for long ones, whose whole likelihood is always near 0.
        judge: who labels replies, as `synth.judges.parse_judge` reads it; several vote.
        heldout_judge: who labels the replies to held-out probes in its place, likewise; a second
            opinion, since what `judge` misreads may have led to the pick. None: `judge` does.
        unreadable_frac: share of a guard's verdicts that may be unreadable before the work stops.
        max_tokens: length of a generated reply.
        write: how `safemerge probes` writes `path`.
    """

    path: str
    heldout: str | None = None
    heldout_frac: float = Field(default=0.5, ge=0.0, lt=1.0)
    validation_frac: float = Field(default=0.2, ge=0.0, lt=1.0)
    likelihood: Literal["answer", "token"] = "token"
    judge: str | tuple[str, ...] = "phrases"
    heldout_judge: str | tuple[str, ...] | None = None
    unreadable_frac: float = Field(default=0.05, ge=0.0, le=1.0)
    max_tokens: int = Field(default=64, ge=1, le=4096)
    write: ProbeConfig | None = None

    @property
    def judges(self) -> tuple[str, ...]:
        """The names of the judges, one or more."""
        return _names(self.judge)

    @property
    def heldout_judges(self) -> tuple[str, ...]:
        """The names of those who judge held-out replies in their place; none where nobody does."""
        return _names(self.heldout_judge)

    @model_validator(mode="after")
    def _judges_known(self) -> ProbesConfig:
        if not self.judges:
            raise ValueError('judge is empty; name one, such as "phrases"')
        for name in (*self.judges, *self.heldout_judges):
            try:
                parse_judge(name)
            except BadInput as error:
                raise ValueError(str(error)) from error
        if set(self.judges) == set(self.heldout_judges):
            raise ValueError(
                f"heldout_judge is {' and '.join(self.heldout_judges)}, which judge is already; "
                "name another one for a second opinion, or leave heldout_judge out"
            )
        return self


def _names(judge: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if judge is None:
        return ()
    return (judge,) if isinstance(judge, str) else judge
