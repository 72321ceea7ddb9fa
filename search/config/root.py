"""SearchConfig: all sections, and what must hold between them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from safemerge.errors import ConfigError, near_names
from search.config.fusion import SEARCHED, FusionConfig
from search.config.model_path import model_path
from search.config.models import MergeConfig, ModelsConfig
from search.config.probes import ProbesConfig
from search.config.retention import with_retention
from search.config.search import EngineConfig, StudyConfig
from search.config.section import Section
from search.config.space import SpaceConfig
from search.config.toml import (
    explain,
    join_taxonomy,
    set_key,
    update_judges,
    update_keys,
    without_none,
)
from search.metrics import LOWER_IS_BETTER, METRICS, RETENTION, Limit, Metric, probe_axes
from synth.judges.served import VLLM, is_server
from synth.probes.probe import AXES


class ObjectiveConfig(Section):
    """One objective; only the fitness has weights, `{axis: weight above 0}`."""

    weights: dict[str, float] = Field(default={})


class SearchConfig(Section):
    """A whole run."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    seed: int = Field(default=7, ge=0)
    models: ModelsConfig
    merge: MergeConfig = MergeConfig()
    space: SpaceConfig = SpaceConfig()
    probes: ProbesConfig
    objectives: dict[str, ObjectiveConfig] = Field(
        default={"domain": ObjectiveConfig(), "harmless": ObjectiveConfig()}
    )
    limits: dict[str, Limit] = Field(default={})
    search: StudyConfig = StudyConfig()
    engine: EngineConfig = EngineConfig()
    fusion: FusionConfig | None = None

    @model_validator(mode="after")
    def _metrics_known(self) -> SearchConfig:
        if not 1 <= len(self.objectives) <= 3:
            raise ValueError(
                f"objectives has {len(self.objectives)} entries ({', '.join(self.objectives)}); "
                "give one to three and make the others limits"
            )
        for section, named in (("objectives", self.objectives), ("limits", self.limits)):
            for metric in named:
                if metric not in METRICS:
                    raise ValueError(
                        f"{section}: unknown {metric!r}; {near_names(metric, METRICS)}"
                    )
        for metric, limit in self.limits.items():
            try:
                limit.check_range(metric)
            except ValueError as error:
                raise ValueError(f"limits.{metric}: {error}") from error
        for metric in RETENTION:
            if metric in self.objectives:
                raise ValueError(f"objectives: {metric} is a limit only; write it under [limits]")
            if metric in self.limits and self.probes.retention == "off":
                raise ValueError(
                    f"limits.{metric} is measured on general prompts, and probes.retention is "
                    "'off'; remove one of them"
                )
        self._check_fitness()
        for params in self.merge.methods.values():
            if "scale" in params:
                raise ValueError(
                    f"merge.params.scale is {params['scale']}, but the scale is searched; "
                    "fix it with space.scale = [x, x]"
                )
            if "outliers" in params and self.space.outliers:
                raise ValueError(
                    f"merge.params.outliers is {params['outliers']!r}, but space.outliers searches "
                    "it; remove one of them"
                )
        for name in self.search.stop.target:
            if name not in self.objectives:
                raise ValueError(
                    f"search.stop.target names {name!r}, which is no objective; "
                    f"{near_names(name, self.objectives)}"
                )
        choices = ["outliers"] if self.space.outliers else []
        choices += ["method"] if len(self.merge.methods) > 1 else []
        if choices and self.search.sampler == "cmaes":
            raise ValueError(
                f"search.sampler is 'cmaes', which searches numbers, and {choices[0]} is a choice; "
                "fix it, or take another sampler"
            )
        names = [source.name for source in self.models.sources]
        for source in self.space.prior:
            if source not in names:
                raise ValueError(f"space.prior names {source!r}; {near_names(source, names)}")
        if self.fusion is not None:
            self.fusion.check_names(names)
        both = self.objectives.keys() & self.limits.keys()
        if both:
            raise ValueError(f"{sorted(both)[0]!r} is an objective and a limit; choose one")
        return self

    def _check_fitness(self) -> None:
        if "fitness" in self.limits:
            raise ValueError("limits: fitness is an objective only; limit its axes instead")
        for name, objective in self.objectives.items():
            if name == "fitness" and not objective.weights:
                raise ValueError(
                    "objectives.fitness has no weights; write, for example, "
                    "fitness = { weights = { harmless = 1.0, domain = 0.3 } }"
                )
            if name != "fitness" and objective.weights:
                raise ValueError(
                    f"objectives.{name} has weights, which only fitness has; remove them"
                )
            for axis, weight in objective.weights.items():
                if axis not in AXES:
                    raise ValueError(
                        f"objectives.fitness.weights: unknown {axis!r}; {near_names(axis, AXES)}"
                    )
                if not weight > 0.0:
                    raise ValueError(
                        f"objectives.fitness.weights.{axis} is {weight}; give a number above 0, or "
                        "leave it out"
                    )

    @property
    def fitness(self) -> dict[str, float]:
        """`{axis: weight}` of the fitness; empty where it is no objective."""
        return self.objectives.get("fitness", ObjectiveConfig()).weights

    @property
    def calibrates(self) -> bool:
        """Whether likelihoods are read as rates; a fitness is made of likelihoods and stays so."""
        return self.search.calibrate > 0 and not self.fitness

    @property
    def objective_axes(self) -> tuple[str, ...]:
        """The probe axes that the objectives speak of, each once."""
        return tuple(dict.fromkeys((*probe_axes(self.objective_names), *self.fitness)))

    @property
    def objective_names(self) -> tuple[Metric, ...]:
        """Objectives in canonical order, whatever the file's order."""
        return tuple(metric for metric in METRICS if metric in self.objectives)

    @property
    def directions(self) -> dict[str, bool]:
        """`{objective: larger is better}`, in canonical order."""
        return {name: name not in LOWER_IS_BETTER for name in self.objective_names}

    @classmethod
    def from_toml(
        cls, path: str | Path, overrides: Iterable[str] = (), *, of_run: bool = False
    ) -> SearchConfig:
        """Read a TOML file.

        Args:
            overrides: `a.b=c` strings; the value is read as TOML, else as a plain string.
            of_run: a run's own record, in which keys of earlier versions are brought up to date.

        Raises:
            ConfigError: naming the file, the key, the value and what is allowed.
        """
        path = Path(path)
        try:
            record = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(
                f"there is no config file {path}; `safemerge init {path}` writes one"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the config file {path}: {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from error
        for override in overrides:
            set_key(record, override)
        problem = update_keys(record)
        if problem is not None and not of_run:
            raise ConfigError(f"{path}: {problem}")
        if of_run:
            update_judges(record)
        join_taxonomy(record, path.parent)
        # A run's own record has absolute paths and hub ids only.
        folder = None if of_run else path.parent
        return cls.from_record(record, where=str(path), folder=folder, of_run=of_run)

    @classmethod
    def from_record(
        cls,
        record: Mapping[str, Any],
        *,
        where: str = "config",
        folder: Path | None = None,
        of_run: bool = False,
    ) -> SearchConfig:
        """Validate a parsed TOML record, and give it the default limits on retention.

        Args:
            record: of the whole file.
            where: what errors call it.
            folder: from which relative paths are taken; None leaves them.
            of_run: a run's own record, which has its limits.

        Raises:
            ConfigError: as of `from_toml`.
        """
        try:
            config = cls.model_validate(with_retention(record, of_run=of_run))
        except ValidationError as error:
            raise ConfigError(f"{where}: {explain(error, cls)}") from error
        return config if folder is None else config.resolved(folder)

    def resolved(self, folder: Path) -> SearchConfig:
        """The same config with relative paths joined to `folder`, made absolute.

        A model path that does not exist there may be a hub id (`model_path`).
        """
        folder = folder.absolute()

        def file(path: str | None) -> str | None:
            return path and str(folder / path)

        def model(path: str) -> str:
            return model_path(path, folder)

        def judge(name: str) -> str:
            kind, equals, path = name.partition("=")
            if is_server(path):
                return name
            where = VLLM if path.startswith(VLLM) else ""
            return f"{kind}{equals}{where}{model(path.removeprefix(where))}" if path else name

        def judges(names: str | tuple[str, ...]) -> str | tuple[str, ...]:
            return judge(names) if isinstance(names, str) else tuple(map(judge, names))

        section, study = self.probes, self.search
        write = section.write and section.write.resolved(folder)
        if write is not None and write.reviewer is not None:
            write = write.model_copy(update={"reviewer": judges(write.reviewer)})
        probes = {
            "grader": section.grader and model(section.grader),
            "judge": judges(section.judge),
            "heldout_judge": section.heldout_judge and judges(section.heldout_judge),
            "path": file(section.path),
            "heldout": file(section.heldout),
            "retention": file(section.general_file) or section.retention,
            "write": write,
        }
        sources = tuple(
            source.model_copy(
                update={"path": model(source.path), "importance": file(source.importance)}
            )
            for source in self.models.sources
        )
        kind, slashes, database = study.storage.partition(":///")
        storage = f"{kind}{slashes}{folder / database}" if kind == "sqlite" else study.storage
        search = {"storage": storage, "start_from": file(study.start_from)}
        fusion = self.fusion
        if fusion is not None:
            models = {"base", SEARCHED, *(source.name for source in self.models.sources)}
            anchor = fusion.anchor if fusion.anchor in models else file(fusion.anchor)
            data = {source: file(path) for source, path in fusion.alignment.items()}
            fusion = fusion.model_copy(update={"anchor": anchor, "alignment": data})
        return self.model_copy(
            update={
                "probes": section.model_copy(update=probes),
                "models": self.models.model_copy(
                    update={"base": model(self.models.base), "sources": sources}
                ),
                "search": study.model_copy(update=search),
                "fusion": fusion,
            }
        )

    def record(self) -> dict[str, Any]:
        """A plain record that `from_record` reads back."""
        record: dict[str, Any] = without_none(self.model_dump(mode="json", by_alias=True))
        return record
