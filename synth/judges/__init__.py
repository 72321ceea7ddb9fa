"""Judges: who says what a reply does with a request, and whether a request is harmful.

`make_judge` and `make_harm_judge` make one by name. README.md has the guards and what they tell.

phrases      strings alone; for smoke tests and worlds with known phrasing
rubric       any chat model, a rubric and JSON
guard        what the judges that ask a model in words have in common
served       where such a model runs
inert        judged texts, made unable to end their frame
ensemble     several judges, by vote
agreement    how far judges agree with people and with each other
"""

from synth.judges.by_name import (
    CHOOSE,
    fetch_judges,
    make_harm_judge,
    make_judge,
    parse_harm_judge,
    parse_judge,
)
from synth.judges.judge import HarmJudge, Judge
from synth.judges.phrases import PhraseJudge
from synth.probes.verdict import Verdict

__all__ = [
    "CHOOSE",
    "HarmJudge",
    "Judge",
    "PhraseJudge",
    "Verdict",
    "fetch_judges",
    "make_harm_judge",
    "make_judge",
    "parse_harm_judge",
    "parse_judge",
]
