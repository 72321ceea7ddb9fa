"""Sources that are not tuned yet: their feed-forward blocks learn from the user's own answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import BaseModel

from safemerge.fusion.alignment import tune_feed_forward
from safemerge.fusion.examples import Example
from safemerge.fusion.export import export_model
from safemerge.fusion.training import Schedule
from safemerge.io import CardRecord, SourceRecord, open_checkpoint
from search.config import SearchConfig
from synth.engines.loading import load_model, load_tokenizer, quiet
from synth.engines.template import open_template
from synth.probes.jsonl import read_records
from synth.progress import Report


class AlignmentAnswer(BaseModel, frozen=True, extra="forbid"):
    """A line of the data of one expert."""

    prompt: str
    answer: str


def tuned_experts(
    config: SearchConfig, data: Mapping[str, str], schedule: Schedule, home: Path, report: Report
) -> SearchConfig:
    """Tune the sources that have data, and return the config with their checkpoints in place.

    Args:
        data: `{source: JSON Lines}`.
        schedule: of each of them.
        home: folder in which they are kept, in `experts/NAME`; those that are there are not tuned
            again, and one that was stopped goes on.

    Raises:
        BadInput: data that cannot be read, or a source that is no whole checkpoint.
        TrainingFailed: a training broke down.
    """
    paths = {source.name: source.path for source in config.models.sources}
    for number, (name, file) in enumerate(data.items()):
        out = home / "experts" / str(number)  # a name may be no file name
        if not out.exists():
            rows = list(read_records(Path(file), AlignmentAnswer))
            _tune(config, paths[name], rows, schedule, out, name, report)
        paths[name] = str(out)
    sources = tuple(
        source.model_copy(update={"path": paths[source.name]}) for source in config.models.sources
    )
    models = config.models.model_copy(update={"sources": sources})
    return config.model_copy(update={"models": models})


def _tune(
    config: SearchConfig,
    path: str,
    rows: list[AlignmentAnswer],
    schedule: Schedule,
    out: Path,
    name: str,
    report: Report,
) -> None:
    stage = f"alignment tuning: {name}"
    report(stage, 0, schedule.steps, "")
    start = open_checkpoint(path)
    template = open_template(load_tokenizer(start.folder), config.models.chat)
    pairs = template.tokenize([(row.prompt, row.answer) for row in rows])
    examples = [Example(tuple(prompt), tuple(answer)) for prompt, answer in pairs]
    model = load_model(start.folder, config.engine.device, torch.float32)
    dtype = next(info.dtype for info in start.tensors.values() if info.is_float)
    checkpoints = out.with_name(f"{out.name}-checkpoints")

    def told(done: int, steps: int, loss: float) -> None:
        report(stage, done, steps, f"loss {loss:.2f}")

    with quiet():
        tune_feed_forward(model, examples, schedule, checkpoints, told)
        card = CardRecord(
            title=name,
            base=path,
            sources=(SourceRecord("start", path, start.content_hash()),),
            method="alignment tuning of the feed-forward blocks",
            recipe_json="{}",
        )
        export_model(model.to(dtype), start, out, card)
