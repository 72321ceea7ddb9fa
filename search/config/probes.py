"""[probes]: where probes come from, how they are split, and who judges the replies.

Keys are explained in template.toml.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from safemerge.errors import BadInput
from search.config.section import Section
from synth.judges import CHOOSE, parse_judge
from synth.judges.by_name import parse_harm_judge
from synth.judges.reviewer import NONE
from synth.writing.config import ProbeConfig


class ProbesConfig(Section):
    path: str
    heldout: str | None = None
    heldout_frac: float = Field(default=0.5, ge=0.0, lt=1.0)
    validation_frac: float = Field(default=0.2, ge=0.0, lt=1.0)
    likelihood: Literal["answer", "token"] = "token"
    judge: str | tuple[str, ...]  # no default: see CHOOSE
    heldout_judge: str | tuple[str, ...] | None = None
    judge_key: str | None = None
    grader: str | None = None
    unreadable_frac: float = Field(default=0.05, ge=0.0, le=1.0)
    max_tokens: int = Field(default=64, ge=1, le=4096)
    retention: str = Field(default="builtin", min_length=1)
    write: ProbeConfig | None = None

    @property
    def general_file(self) -> str | None:
        """The user's own file of general prompts, if there is one."""
        return None if self.retention in ("builtin", "off") else self.retention

    @property
    def judges(self) -> tuple[str, ...]:
        return _names(self.judge)

    @property
    def heldout_judges(self) -> tuple[str, ...]:
        """The names of the judges of held-out replies; none where they are the same."""
        return _names(self.heldout_judge)

    @model_validator(mode="before")
    @classmethod
    def _judge_is_chosen(cls, record: Any) -> Any:
        if isinstance(record, dict) and record.get("judge") in (None, "", [], ()):
            raise ValueError(f"judge is missing: {CHOOSE}")
        return record

    @model_validator(mode="after")
    def _judges_known(self) -> ProbesConfig:
        for name in (*self.judges, *self.heldout_judges):
            try:
                parse_judge(name)
            except BadInput as error:
                raise ValueError(str(error)) from error
        for name in () if self.write is None else self.write.reviewers:
            try:
                if name != NONE:
                    parse_harm_judge(name)
            except BadInput as error:
                raise ValueError(f"write.reviewer: {error}") from error
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
