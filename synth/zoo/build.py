"""The zoo on disk: a folder named by the hash of everything that decides its bytes.

It is trained in a temporary folder and renamed at the end, so that a kill leaves no half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from safemerge.errors import BadInput
from synth.probes.jsonl import write_jsonl
from synth.zoo import corpus, draw, worker
from synth.zoo.children import run_children
from synth.zoo.general import general_prompts
from synth.zoo.worker import ZooSpec
from synth.zoo.world import World

HELDOUT = 256  # probes for each axis
GENERAL = 32  # general prompts for each half
# Whose content decides the bytes of a zoo.
SOURCE_FILES = (
    *("lexicon", "world", "draw", "general", "corpus", "tokenizer", "train", "strength", "worker"),
)

TrainingProgress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Zoo:
    """Four checkpoints and their held-out probes."""

    root: Path  # folder of this zoo
    base: Path  # checkpoint folder of the base
    sources: dict[str, Path]  # name -> checkpoint folder: domain, safe, honest
    heldout: Path  # JSON Lines of probes, 256 for each axis
    general: Path  # JSON Lines of general prompts, 32 for each half
    seed: int  # seed of the world; World(seed) knows the truth


def build_zoo(
    folder: Path,
    spec: ZooSpec = ZooSpec(),  # noqa: B008  # frozen
    *,
    device: str = "cpu",
    progress: TrainingProgress | None = None,
    processes: int | None = None,
) -> Zoo:
    """Train the four models of the small world, or find them trained.

    Args:
        folder: the zoo lands in a subfolder named by content hash.
        spec: its size, seed and training; the default is that of the README's figures.
        device: "cpu", or as torch names others.
        progress: told a model's name and the finished share of the whole, in [0, 1].
        processes: 1 (this one) or 2 (children of one thread each; a script then needs its
            `if __name__ == "__main__"`); None is 2 on a CPU of several cores, else 1.

    Raises:
        BadInput: a number is out of range.
        SafemergeError: a training process failed.
    """
    if processes is None:
        processes = 2 if device == "cpu" and (os.cpu_count() or 1) > 1 else 1
    _check(spec, device, processes)
    key = _content_hash(spec)
    root = Path(folder) / key
    tell = progress or (lambda name, share: None)
    if not (root / "zoo.json").is_file():
        Path(folder).mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".building-", dir=folder)).resolve()
        try:
            job = worker.Job(folder=temporary, spec=spec, device=device, processes=processes)
            _train(job, tell)
            _write_rest(job)
            temporary.chmod(0o755)  # mkdtemp makes it private
            _publish(temporary, root)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    tell("done", 1.0)
    return Zoo(
        root=root,
        base=root / "base",
        sources={name: root / name for name in corpus.SOURCES},
        heldout=root / "heldout.jsonl",
        general=root / "general.jsonl",
        seed=spec.seed,
    )


def _check(spec: ZooSpec, device: str, processes: int) -> None:
    if spec.width < 16 or spec.width % 16:
        raise BadInput(f"the zoo's width must be a positive multiple of 16, not {spec.width}")
    if not 0 < spec.effort <= 10:
        raise BadInput(f"the zoo's effort must be above 0 and at most 10, not {spec.effort}")
    if processes not in (1, 2):
        raise BadInput(f"the zoo trains in 1 or 2 processes, not {processes}")
    try:
        torch.device(device)
    except RuntimeError as error:
        raise BadInput(f"torch knows no device {device!r}; try 'cpu' or 'cuda'") from error


def _content_hash(spec: ZooSpec) -> str:
    """Of world and training code, spec and torch: all that decides the zoo."""
    digest = hashlib.sha256()
    for name in SOURCE_FILES:
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    digest.update(
        json.dumps(
            [spec.width, spec.seed, spec.effort, HELDOUT, GENERAL, torch.__version__]
        ).encode()
    )
    return digest.hexdigest()[:16]


def _train(job: worker.Job, tell: TrainingProgress) -> None:
    """Run the job here or in children, and pass their progress on as one share of all steps."""
    total = sum(plan.steps for plan in worker.PLAN.values())
    done = dict.fromkeys(worker.PLAN, 0.0)

    def note(name: str, share: float) -> None:
        done[name] = max(done[name], share)
        tell(name, sum(worker.PLAN[n].steps * s for n, s in done.items()) / total)

    if job.processes == 1:
        worker.work(job, 0, note)
    else:
        run_children(job, note)


def _write_rest(job: worker.Job) -> None:
    """Held-out probes, general prompts and the record; working files go."""
    world = World(job.spec.seed)
    probes = draw.probes(world, "heldout", HELDOUT)
    text = "".join(probe.model_dump_json() + "\n" for probe in probes)
    (job.folder / "heldout.jsonl").write_text(text, encoding="utf-8")
    write_jsonl(job.folder / "general.jsonl", general_prompts(world, GENERAL))
    for name in ("meet", *(f"worker{rank}.log" for rank in range(job.processes))):
        (job.folder / name).unlink(missing_ok=True)
    record = {
        **job.spec.model_dump(),
        "torch": str(torch.__version__),
        "plan": {name: (plan.steps, plan.lr) for name, plan in worker.PLAN.items()},
        "models": corpus.MODELS,
    }
    (job.folder / "zoo.json").write_text(json.dumps(record, indent=2) + "\n")


def _publish(temporary: Path, root: Path) -> None:
    """Rename into place; if another builder was first, its zoo is the same and stays."""
    try:
        os.replace(temporary, root)
    except OSError:
        if not (root / "zoo.json").is_file():
            raise
