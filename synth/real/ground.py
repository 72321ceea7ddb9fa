"""The real ground: a real instruct model, real prompts, and three experts trained on them here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch

from safemerge.errors import require
from synth.engines.transformers import TransformersEngine
from synth.probes.jsonl import read_jsonl, write_jsonl
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
# Told what is being made, the finished share of it in [0, 1], and what else there is to say.
GroundProgress = Callable[[str, float, str], None]


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
    progress: GroundProgress = lambda what, share, note: None,
) -> RealGround:
    """Fetch, convert and train what is not there yet.

    Args:
        folder: a cache; every part lies in it by its content.
        seed: of the splits of the prompts.
        tuning: adapters of the base, or whole checkpoints.
        progress: told of every step.

    Raises:
        BadInput: a package cannot be fetched or is not what was pinned.
        MissingDependency: without the packages of the extra "real".
    """
    for module in ("peft", "gguf", "accelerate"):
        require(module, extra="real")
    files: dict[str, Path] = {}

    def told_download(package: Package, into: Path) -> Path:
        progress(f"fetch {package.name} {package.version}", 0.0, "")
        return download(package, into)

    for package in (*PROMPT_PACKAGES, SMOLLM2):
        files |= fetch(package, folder / "files", download=told_download)
    prompts = all_prompts(files, seed)

    def made_base(empty: Path) -> None:
        progress("convert the model", 0.0, "")
        convert(files[GGUF], empty)

    decides = [SMOLLM2.files[GGUF], version("transformers"), version("gguf")]
    base = cached(folder, "base", decides, made_base)
    lessons = _lessons(folder, base, prompts, progress)
    experts = {
        name: _expert(folder, base, name, lessons[name], tuning, progress) for name in EXPERTS
    }
    return RealGround(base=base, experts=experts, prompts=tuple(prompts))


def is_built(folder: Path, tuning: Tuning) -> bool:
    """Whether something like every expert lies there, so that little is left to do."""
    return all(any(folder.glob(f"{_name(name, tuning)}-{'?' * 16}")) for name in EXPERTS)


def _lessons(
    folder: Path, base: Path, prompts: Sequence[Prompt], progress: GroundProgress
) -> dict[str, Iterator[Lesson]]:
    """What each expert is taught, with the base's own replies."""
    learned = [prompt for prompt in prompts if prompt.split == "train"]
    asked = {
        name: chosen(learned, counts, _LESSON_SEED)
        for name, counts in (("kept", KEPT), ("complied", COMPLIED))
    }

    def answered(empty: Path) -> None:
        engine = TransformersEngine(base, dtype=torch.float32)
        count, done = sum(map(len, asked.values())), 0
        for name, texts in asked.items():
            replies: list[Lesson] = []
            for start in range(0, len(texts), _TOGETHER):
                progress("the base's own replies", done / count, f"{count} prompts")
                some = texts[start : start + _TOGETHER]
                replies += own_replies(engine, some, OWN_TOKENS)
                done += len(some)
            write_jsonl(empty / f"{name}.jsonl", map(asdict, replies))

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
    progress: GroundProgress,
) -> Path:
    plan = PLANS[tuning][name]
    taught = list(islice(lessons, plan.steps * plan.batch))

    def told(done: int, steps: int, loss: float) -> None:
        progress(f"train the {name} expert", done / steps, f"loss {loss:.2f}")

    decides: list[Any] = [base.name, asdict(plan)]
    told_lessons, by = [asdict(lesson) for lesson in taught], torch.__version__
    if tuning == "lora":
        decides += [RANK, ALPHA, told_lessons, version("peft"), by]
        make = partial(train_lora, base, taught, plan, progress=told)
    else:
        decides += [told_lessons, by]
        make = partial(train_full, base, taught, plan, progress=told)
    return cached(folder, _name(name, tuning), decides, make)


def _name(expert: str, tuning: Tuning) -> str:
    return expert if tuning == "lora" else f"{expert}-full"
