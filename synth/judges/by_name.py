"""Judges by name: KIND[:CHOICE][+SECOND][=MODEL], such as "qwen3guard:strict=./guard".

SECOND tells the refusals for a guard that labels none; it is a judge without a model. MODEL is a
folder, a hub id or the url of a server, see `served.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safemerge.errors import BadInput, near_names
from synth.judges.ensemble import EnsembleJudge
from synth.judges.gpt_oss_safeguard import GPT_OSS_SAFEGUARD
from synth.judges.granite_guardian import GRANITE_GUARDIAN_3, GRANITE_GUARDIAN_4
from synth.judges.guard import Guard, ModelJudge
from synth.judges.guard_model import GuardModel
from synth.judges.harmbench import HARMBENCH
from synth.judges.judge import HarmJudge, Judge
from synth.judges.llama_guard import LLAMA_GUARD, LLAMA_GUARD_4
from synth.judges.phrases import PhraseJudge
from synth.judges.qwen3guard import QWEN3GUARDS
from synth.judges.rubric import RUBRIC
from synth.judges.served import fetch, is_server, open_engine
from synth.judges.sorry_bench import SORRY_BENCH
from synth.judges.trained.judge import TrainedJudge
from synth.judges.wildguard import WILDGUARD
from synth.judges.yes_no import YES_NO, YesNoJudge

# Judges that need no model.
PLAIN: dict[str, Callable[[], Judge]] = {"phrases": PhraseJudge, "trained": TrainedJudge}
GUARDS: dict[str, GuardModel] = {
    guard.kind: guard
    for guard in (
        *QWEN3GUARDS,
        WILDGUARD,
        GPT_OSS_SAFEGUARD,
        YES_NO,
        RUBRIC,
        LLAMA_GUARD,
        LLAMA_GUARD_4,
        GRANITE_GUARDIAN_3,
        GRANITE_GUARDIAN_4,
        HARMBENCH,
        SORRY_BENCH,
    )
}
JUDGES = (*PLAIN, *GUARDS)
CHOOSE = (
    "there is no default, because a judge that misreads replies picks the wrong merge; choose "
    '"qwen3guard:strict", whose 0.6 B model runs on a CPU ("qwen3guard:strict=Qwen/'
    'Qwen3Guard-Gen-4B" or 8B on a GPU), "trained", which needs no model, reads English and misses '
    'some refusals, or "phrases", which is for smoke tests and models of known phrasing only'
)


@dataclass(frozen=True, slots=True)
class JudgeName:
    """A judge's name, taken apart."""

    kind: str  # one of `JUDGES`
    second: str | None  # one of `PLAIN`, who tells refusals; None where the kind tells them
    model: str  # "" for a kind that needs none


def parse_judge(text: str) -> JudgeName:
    """The parts of a judge's name.

    Raises:
        BadInput: for an unknown kind, a model of another kind's format, a part that is missing, or
            one that has no use.
    """
    name = _parse(text)
    if name.kind in PLAIN:
        return name
    if GUARDS[name.kind].refusals and name.second is not None:
        raise BadInput(f"the judge {name.kind!r} tells refusals itself; leave +{name.second} out")
    if not GUARDS[name.kind].refusals and name.second is None:
        ways = " or ".join(f"{name.kind}+{second}" for second in PLAIN)
        raise BadInput(
            f"the judge {name.kind!r} tells harm and no refusals; name who tells them, as in {ways}"
        )
    return name


def parse_harm_judge(text: str) -> JudgeName:
    """The parts of a harm judge's name; raises as `parse_judge`, and for who needs a reply."""
    name = _parse(text)
    able = [kind for kind in JUDGES if _tells_harm(kind)]
    if name.kind not in able:
        raise BadInput(
            f"the judge {name.kind!r} cannot tell from a request alone whether it is harmful; "
            f"choose one of {', '.join(able)}"
        )
    if name.second is not None:
        raise BadInput(f"no reply is read, and so no refusal; leave +{name.second} out")
    return name


def make_judge(
    names: str | Sequence[str],
    *,
    device: str = "cpu",
    unreadable_frac: float = 0.05,
    key: str | None = None,
) -> Judge:
    """The judge of that name, as `parse_judge` reads it, or an ensemble of several.

    Guard models are loaded on `device`, or asked at their servers with the API key that the
    environment variable `key` holds. Each is held to `unreadable_frac`, see `ModelJudge`.

    Raises:
        BadInput: for a name that cannot be read, or one given twice.
        CheckpointError: for a guard that cannot be fetched or loaded.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    parsed = [parse_judge(name) for name in wanted]  # all of them before any is loaded
    for name in wanted:
        if wanted.count(name) > 1:
            raise BadInput(f"the judge {name!r} is named twice; name it once")
    judges: dict[str, Judge] = {}
    for name, parts in zip(wanted, parsed, strict=True):
        if parts.kind in PLAIN:
            judges[name] = PLAIN[parts.kind]()
        else:
            judges[name] = _open(parts, device=device, unreadable=unreadable_frac, key=key)
    return next(iter(judges.values())) if len(judges) == 1 else EnsembleJudge(judges)


def make_harm_judge(
    name: str, *, device: str = "cpu", unreadable_frac: float = 0.05, key: str | None = None
) -> HarmJudge:
    """Who tells from requests alone whether they are harmful; arguments as of `make_judge`."""
    parsed = parse_harm_judge(name)
    if parsed.kind in PLAIN:
        judge = PLAIN[parsed.kind]()
        assert isinstance(judge, HarmJudge)  # see `_tells_harm`
        return judge
    return _open(parsed, device=device, unreadable=unreadable_frac, key=key)


def fetch_judges(names: Sequence[str]) -> None:
    """Have every judge's model on this machine, before long work that needs it at its end.

    Raises:
        CheckpointError: that names the judge and the model that could not be fetched.
    """
    for name in map(_parse, names):
        if name.model:
            fetch(name.kind, name.model)


def _parse(text: str) -> JudgeName:
    head, equals, model = text.partition("=")
    kind, plus, second = head.partition("+")
    choices = [known for known in GUARDS if known.startswith(f"{kind.partition(':')[0]}:")]
    if kind not in JUDGES and choices:
        raise BadInput(
            f"the judge {kind!r} needs a choice, what its label Controversial counts as: "
            f"{' (harmful) or '.join(choices)} (harmless)"
        )
    if kind not in JUDGES:
        raise BadInput(f"there is no judge {kind!r}; {near_names(kind, JUDGES)}")
    if kind in PLAIN:
        if equals or plus:
            raise BadInput(f"the judge {kind!r} needs no model, but {text!r} names one")
        return JudgeName(kind, None, "")
    if plus and second not in PLAIN:
        raise BadInput(
            f"the judge {text!r} leaves refusals to {second!r}, which is no judge without a model; "
            f"{near_names(second, PLAIN)}"
        )
    model = model or GUARDS[kind].model
    if not model:
        raise BadInput(
            f"the judge {kind!r} needs a model; name a folder or hub id, as in {kind}=org/model"
        )
    _check_family(kind, model)
    return JudgeName(kind, second or None, model)


def _check_family(kind: str, model: str) -> None:
    """Refuse a model whose name says that it is a guard of another kind."""
    if is_server(model):
        return
    name = re.sub(r"[^a-z0-9]", "", model.rstrip("/").rpartition("/")[2].partition("@")[0].lower())
    made_for = [k for k, g in GUARDS.items() if g.names and name.startswith(g.names)]
    if made_for and kind not in made_for and kind not in (RUBRIC.kind, YES_NO.kind):
        raise BadInput(
            f"the model {model!r} is made for the judge {made_for[0]!r}, and {kind!r} asks in "
            f"another format; write {made_for[0]}={model}, or name a model of {kind!r}"
        )


def _tells_harm(kind: str) -> bool:
    if kind in PLAIN:
        return hasattr(PLAIN[kind], "harmful")
    guard = GUARDS[kind]
    return not isinstance(guard, Guard) or guard.ask_prompt is not None


def _open(
    name: JudgeName, *, device: str, unreadable: float, key: str | None
) -> ModelJudge | YesNoJudge:
    guard = GUARDS[name.kind]
    engine = open_engine(guard, name.model, device=device, key=key)
    if not isinstance(guard, Guard):
        return YesNoJudge(engine, unreadable)
    second = None if name.second is None else PLAIN[name.second]()
    return ModelJudge(guard, engine, unreadable, second)
