"""What a run keeps of the general prompts: every model's replies, and the base's to compare with.

`general/` holds those of base and sources to the search half, asked for once, at the start. A
divergence is always from the base, on the base's replies as they are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from safemerge.errors import RunError
from search.metrics import ReferenceScores
from search.runs.rundir import RunDir
from search.runs.workbench import Workbench
from search.scoring.divergence import Divergence
from search.scoring.retention import GeneralAnswer, general_scores, grade_general
from synth.judges import Judge
from synth.probes.general import Half
from synth.probes.jsonl import read_jsonl
from synth.progress import Report, silent
from synth.text.reply import read_reply

_FOLDER = "general"
BASE = f"{_FOLDER}/base.jsonl"

GeneralFiles = Mapping[str, Sequence[GeneralAnswer]]
"""`{file of the run: answers}` of base and sources, the base first; empty without retention."""


def read_answers(home: RunDir, file: str) -> list[GeneralAnswer] | None:
    """The answers in a file of the run; None without it."""
    if not (home.path / file).exists():
        return None
    return [GeneralAnswer(**row) for _, row in read_jsonl(home.path / file)]


def write_answers(home: RunDir, file: str, answers: Sequence[GeneralAnswer]) -> None:
    """Write answers, whole."""
    rows = (json.dumps(asdict(answer), ensure_ascii=False, sort_keys=True) for answer in answers)
    home.write_text(file, "".join(f"{row}\n" for row in rows))


def know_base(
    bench: Workbench,
    half: Half,
    max_tokens: int,
    judge: Judge,
    kept: Sequence[GeneralAnswer] | None = None,
) -> list[GeneralAnswer]:
    """The base's answers, those kept or asked for now; divergences from it can be measured then.

    A RunError where what was kept answers other prompts.
    """
    prompts = _prompts(bench, half)
    if kept is not None and [answer.prompt for answer in kept] != list(prompts):
        raise RunError(
            "the run was started with other general prompts (probes.retention); restore them, or "
            "start a new run with --run NAME"
        )
    divergences = bench.retained.divergences
    if kept is not None and half in divergences:
        return list(kept)
    bench.load_model()
    if kept is None:
        replies = bench.generation_engine().chat(prompts, max_tokens=max_tokens)
    else:
        replies = [answer.reply for answer in kept]
    if half not in divergences:
        answers = [read_reply(reply).answer for reply in replies]
        divergences[half] = Divergence(bench.engine, prompts, answers)
    if kept is not None:
        return list(kept)
    return grade_general(prompts, replies, divergences[half].measure(), judge)


def ask_general(bench: Workbench, half: Half, max_tokens: int, judge: Judge) -> list[GeneralAnswer]:
    """The live model's answers to one half, once the base is known on it."""
    prompts = _prompts(bench, half)
    replies = bench.generation_engine().chat(prompts, max_tokens=max_tokens)
    divergences = bench.retained.divergences[half].measure(bench.engine)
    return grade_general(prompts, replies, divergences, judge)


def ask_at_start(
    home: RunDir, bench: Workbench, max_tokens: int, report: Report = silent
) -> GeneralFiles:
    """Answers of base and sources to the search half; those that the run has are not asked for.

    Nothing is written. From then on trials have a divergence.
    """
    if bench.general is None:
        return {}
    known = bench.retained.answers
    base, *sources = bench.inputs.refs
    stage, models = "general prompts", 1 + len(sources)
    report(stage, 0, models, base.name)
    before = read_answers(home, BASE) or known.get(base.path)
    known[base.path] = know_base(bench, "search", max_tokens, bench.judge, before)
    files = {BASE: known[base.path]}
    for index, ref in enumerate(sources):
        report(stage, 1 + index, models, ref.name)
        file = f"{_FOLDER}/source-{index}.jsonl"  # a name may be no file name
        answers = read_answers(home, file) or known.get(ref.path)
        if answers is None:
            bench.load_model(index)
            answers = ask_general(bench, "search", max_tokens, bench.judge)
        files[file] = known[ref.path] = answers
    report(stage, models, models, "")
    return files


def with_retention(
    baseline: ReferenceScores, bench: Workbench, files: GeneralFiles
) -> ReferenceScores:
    """The scores of base and sources with those of their answers from `ask_at_start`."""
    if not files:
        return baseline
    base, *sources = (general_scores(answers) for answers in files.values())
    names = [ref.name for ref in bench.inputs.refs[1:]]
    return ReferenceScores(
        {**baseline.base, **base},
        {
            name: {**baseline.sources[name], **scores}
            for name, scores in zip(names, sources, strict=True)
        },
    )


def _prompts(bench: Workbench, half: Half) -> tuple[str, ...]:
    assert bench.general is not None  # the callers see to it
    return bench.general.half(half)
