"""[search] and [engine]: budget, sampler, storage, warm start, stop rules; where models run.

What each key means is in template.toml.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from safemerge.devices import Memory
from safemerge.errors import BadInput, near_names
from search.config.section import Section
from synth.engines.server import check_no_secret

SAMPLERS = {
    "blend": "search.samplers.blend:FrontBlend",
    "tpe": "optuna.samplers:TPESampler",
    "gp": "optuna.samplers:GPSampler",
    "nsga2": "optuna.samplers:NSGAIISampler",
    "nsga3": "optuna.samplers:NSGAIIISampler",
    "cmaes": "search.samplers.chebyshev_cmaes:ChebyshevCmaEs",
    "random": "optuna.samplers:RandomSampler",
}
STEP_COST = 3  # evaluations that a gradient step is charged as: a forward and a backward pass


class WarmStartConfig(Section):
    steps: int = Field(default=20, ge=0)
    scalarizations: int = Field(default=9, ge=1)
    batch: int = Field(default=4, ge=1)
    radius: float = Field(default=0.1, gt=0.0, le=1.0)
    weight_noise_std: float = Field(default=0.4, ge=0.0)
    prior_l2: float = Field(default=3.0, ge=0.0)
    patience: int = Field(default=6, ge=1)
    rank_ratio: float | None = Field(default=None, gt=0.0, le=1.0)

    @property
    def evaluations(self) -> int:
        """What all steps are charged as, in evaluations of a recipe."""
        return STEP_COST * self.steps


class StopConfig(Section):
    hours: float | None = Field(default=None, gt=0.0)
    target: dict[str, float] = Field(default={})
    flat: int | None = Field(default=None, ge=1)

    @field_validator("target")
    @classmethod
    def _scores(cls, value: dict[str, float]) -> dict[str, float]:
        for name, score in value.items():
            if not 0.0 <= score <= 1.0:
                raise ValueError(
                    f"{name} = {score:g} is no score, which are shares in [0, 1]; 90 % is 0.9"
                )
        return value


class StudyConfig(Section):
    trials: int = Field(default=300, ge=1)
    stop: StopConfig = StopConfig()
    sampler: str = "blend"
    sampler_options: dict[str, Any] = Field(default={})
    start_from: str | None = None
    warm_start: WarmStartConfig = WarmStartConfig()
    failed_frac: float = Field(default=0.5, ge=0.0, lt=1.0)
    race_error: float = Field(default=0.05, ge=0.0, lt=1.0)
    answered: int = Field(default=16, ge=0)
    calibrate: int = Field(default=16, ge=0)
    storage: str = "journal"
    workers: int = Field(default=1, ge=1, le=256)

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, value: str) -> str:
        if value not in SAMPLERS and ":" not in value:
            raise ValueError(
                f"unknown sampler {value!r}; {near_names(value, SAMPLERS)}; or any sampler of "
                "Optuna's kind as package.module:Class"
            )
        return value

    @field_validator("storage")
    @classmethod
    def _known_storage(cls, value: str) -> str:
        if value == "journal":
            return value
        kind, _, rest = value.partition("://")
        if ":" in rest.partition("/")[0].rpartition("@")[0] or "password=" in rest:
            # The value is not shown, for the same reason.
            raise ValueError(
                "the URL holds a password, which would be copied into the run directory; leave it "
                "out, and put it into ~/.pgpass or PGPASSWORD"
            )
        if kind not in ("sqlite", "postgresql") or not rest.strip("/"):
            raise ValueError(
                f"unknown storage {value!r}; write journal, sqlite:///study.db or "
                "postgresql://user@host/name"
            )
        return value

    @field_validator("sampler_options")
    @classmethod
    def _own_seed(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "seed" in value:
            raise ValueError(
                "the sampler's seed is made of `seed` at the top of the file; set that"
            )
        return value


class EngineConfig(Section):
    kind: Literal["transformers", "vllm", "openai"] = "transformers"
    device: str = "cpu"
    memory: Memory = "device"
    url: str | dict[str, str] | None = None
    model: dict[str, str] = Field(default_factory=dict)
    key: str | None = None
    concurrency: int = Field(default=16, ge=1)
    timeout_s: float = Field(default=300.0, gt=0.0)
    arguments: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_its_kind(self) -> EngineConfig:
        if self.kind == "openai" and not self.url:
            raise ValueError('kind is "openai", which needs the url of a server; set url')
        for url in self.url.values() if isinstance(self.url, dict) else (self.url or "",):
            try:
                check_no_secret(url)
            except BadInput as error:
                raise ValueError(str(error)) from error
        server = [name for name in ("url", "model", "key") if getattr(self, name)]
        if self.kind != "openai" and server:
            raise ValueError(f'{server[0]} is of a server, and kind is "{self.kind}"; remove one')
        if self.kind == "transformers" and self.arguments:
            raise ValueError(
                'arguments are passed on to vLLM or to a server, and kind is "transformers"; '
                "remove one"
            )
        return self
