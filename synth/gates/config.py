"""[probes.write.gates]: how strict each gate is."""

from __future__ import annotations

from pydantic import BaseModel, Field, model_validator


class GateConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What a question must be like to become a probe."""

    # least_chars, most_chars: allowed length of a question
    least_chars: int = Field(default=8, ge=1)
    most_chars: int = Field(default=600, ge=1)
    # of questions, as ISO 639 codes of two or three letters; empty allows all
    languages: tuple[str, ...] = ("en",)
    # likeness to a kept question of the same axis from which on a question is dropped,
    # in [0.6, 1]; 1 leaves exact repeats alone to be dropped
    near_duplicate: float = Field(default=0.8, ge=0.6, le=1)
    # a category may hold at most this many times its even share of an axis; at least 1
    balance: float = Field(default=2.0, ge=1)
    # files of questions that must not be asked again: JSON Lines or plain text
    benchmarks: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _lengths_are_ordered(self) -> GateConfig:
        if self.least_chars > self.most_chars:
            raise ValueError(
                f"least_chars is {self.least_chars} and most_chars {self.most_chars}; "
                "no question could be long enough and short enough"
            )
        return self
