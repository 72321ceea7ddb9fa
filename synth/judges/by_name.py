"""Judges by name: "phrases", "trained", "wildguard", or "wildguard=MODEL", a folder or hub id."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from safemerge.errors import BadInput, near_names
from synth.engines.template import ChatSettings
from synth.judges.ensemble import EnsembleJudge
from synth.judges.guard import ModelJudge
from synth.judges.judge import Judge
from synth.judges.llama_guard import LLAMA_GUARD
from synth.judges.phrases import PhraseJudge
from synth.judges.rubric import RUBRIC
from synth.judges.trained.judge import TrainedJudge
from synth.judges.wildguard import WILDGUARD

# Judges that need no model.
PLAIN: dict[str, Callable[[], Judge]] = {"phrases": PhraseJudge, "trained": TrainedJudge}
GUARDS = {guard.kind: guard for guard in (WILDGUARD, LLAMA_GUARD, RUBRIC)}
JUDGES = (*PLAIN, *GUARDS)


def parse_judge(text: str) -> tuple[str, str]:
    """(kind, model) of a judge's name; the model is "" for one that needs none.

    Raises:
        BadInput: for an unknown kind, a model that is missing, or one that has no use.
    """
    kind, equals, model = text.partition("=")
    if kind not in JUDGES:
        raise BadInput(f"there is no judge {kind!r}; {near_names(kind, JUDGES)}")
    if kind not in GUARDS:
        if equals:
            raise BadInput(f"the judge {kind!r} needs no model, but {text!r} names one")
        return kind, ""
    model = model or GUARDS[kind].model
    if not model:
        raise BadInput(
            f"the judge {kind!r} needs a model; name a folder or hub id, as in {kind}=org/model"
        )
    return kind, model


def make_judge(
    names: str | Sequence[str], *, device: str = "cpu", unreadable_frac: float = 0.05
) -> Judge:
    """The judge of that name, as `parse_judge` reads it, or an ensemble of several.

    Guard models are loaded on `device`; each is held to `unreadable_frac`, see `ModelJudge`.

    Raises:
        BadInput: for a name that cannot be read, or one given twice.
        CheckpointError: for a guard that cannot be loaded.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    parsed = [parse_judge(name) for name in wanted]  # all of them before any is loaded
    for name in wanted:
        if wanted.count(name) > 1:
            raise BadInput(f"the judge {name!r} is named twice; name it once")
    judges: dict[str, Judge] = {}
    for name, (kind, model) in zip(wanted, parsed, strict=True):
        if kind not in GUARDS:
            judges[name] = PLAIN[kind]()
            continue
        from synth.engines.transformers import TransformersEngine

        guard = GUARDS[kind]
        chat = ChatSettings(template=guard.template)
        engine = TransformersEngine(model, device=device, chat=chat)
        judges[name] = ModelJudge(guard, engine, unreadable_frac)
    return next(iter(judges.values())) if len(judges) == 1 else EnsembleJudge(judges)
