"""The probes and general prompts that a config names, and the judges of replies to them."""

from __future__ import annotations

from pathlib import Path

from safemerge.errors import ProbeError
from search.config import SearchConfig
from synth.grading import Grader, make_grader
from synth.judges import Judge, make_judge
from synth.judges.judge import HarmJudge
from synth.judges.reviewer import HarmReviewer, Reviewer, make_reviewer, reviewer_of
from synth.probes.general import GeneralPrompts, builtin_general, read_general
from synth.probes.probe import ProbeSet
from synth.text.normalise import normalise


def load_probes(config: SearchConfig) -> ProbeSet:
    """All probes of a config, with splits assigned, whatever the order of the files."""
    section = config.probes
    if not Path(section.path).exists():
        raise ProbeError(
            f"there is no probe file {section.path}: `safemerge probes CONFIG` lets the models "
            "write it, or put your own questions there (docs/run-folder.md has the format)"
        )
    probes = _in_order(ProbeSet.from_jsonl(section.path))
    if section.heldout is None:
        return probes.with_splits(section.heldout_frac, section.validation_frac, config.seed)
    split = probes.with_splits(0.0, section.validation_frac, config.seed)
    heldout = _in_order(ProbeSet.from_jsonl(section.heldout))
    held = {normalise(probe.prompt) for probe in heldout}
    shared = [probe.id for probe in probes if normalise(probe.prompt) in held]
    if shared:
        raise ProbeError(
            f"{section.path} and {section.heldout} share {len(shared)} prompts, such as that of "
            f"the probe {shared[0]}; held-out probes must not be searched on, remove them from one "
            "file"
        )
    return ProbeSet(
        (*split.probes, *(p.model_copy(update={"split": "heldout"}) for p in heldout.probes))
    )


def _in_order(probes: ProbeSet) -> ProbeSet:
    return ProbeSet(tuple(sorted(probes, key=lambda probe: probe.id)))


def heldout_prompts(config: SearchConfig) -> frozenset[str]:
    """The held-out prompts, normalised; none where their file is not written yet."""
    section = config.probes
    if not Path(section.heldout or section.path).exists():
        return frozenset()
    if section.heldout is not None:
        held = ProbeSet.from_jsonl(section.heldout)
    else:
        held = load_probes(config).split("heldout")
    return frozenset(normalise(probe.prompt) for probe in held)


def load_general(config: SearchConfig) -> GeneralPrompts | None:
    """The general prompts of a config; None where it wants none."""
    section = config.probes
    if section.retention == "off":
        return None
    file = section.general_file
    return builtin_general() if file is None else read_general(Path(file))


def probe_judge(config: SearchConfig) -> Judge:
    """The judge of replies to the search and validation probes."""
    return _judge(config, config.probes.judges)


def heldout_judge(config: SearchConfig) -> Judge | None:
    """The judge of held-out replies; None where it is the same one."""
    names = config.probes.heldout_judges
    return _judge(config, names) if names else None


def probe_grader(config: SearchConfig) -> Grader | None:
    """Who grades replies to what takes a chat model; None where none is named."""
    section = config.probes
    if section.grader is None:
        return None
    device, unreadable = config.engine.device, section.unreadable_frac
    return make_grader(section.grader, device=device, unreadable_frac=unreadable)


def probe_reviewers(config: SearchConfig, judge: Judge) -> tuple[Reviewer, ...]:
    """Who reads written questions: those that `probes.write.reviewer` names, or a judge that can.

    Args:
        judge: `probe_judge(config)`, which is not loaded twice where it is the reviewer too.
    """
    section = config.probes
    named = () if section.write is None else section.write.reviewers
    if not named and len(section.judges) == 1 and isinstance(judge, HarmJudge):
        return (HarmReviewer(judge),)
    able = reviewer_of(section.judges)
    return tuple(
        make_reviewer(
            name,
            device=config.engine.device,
            unreadable_frac=section.unreadable_frac,
            key=section.judge_key,
        )
        for name in named or (() if able is None else (able,))
    )


def _judge(config: SearchConfig, names: tuple[str, ...]) -> Judge:
    section = config.probes
    return make_judge(
        names,
        device=config.engine.device,
        unreadable_frac=section.unreadable_frac,
        key=section.judge_key,
    )
