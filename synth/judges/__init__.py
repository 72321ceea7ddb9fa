"""Judges: who says whether a reply complies, refuses or is broken.

    phrases      strings alone; for smoke tests and worlds with known phrasing
    wildguard    WildGuard, which labels refusals
    llama_guard  Llama Guard 3, which labels harm; phrases tell refusals from help
    rubric       any chat model, a rubric and JSON

`make_judge` makes one by name, or an ensemble of several.
"""

from synth.judges.ensemble import EnsembleJudge
from synth.judges.judge import Judge
from synth.judges.llama_guard import LlamaGuardJudge
from synth.judges.naming import JUDGES, make_judge, parse_judge
from synth.judges.phrases import PhraseJudge
from synth.judges.rubric import RubricJudge
from synth.judges.wildguard import WildGuardJudge
from synth.probes.verdict import Verdict

__all__ = [
    "JUDGES",
    "EnsembleJudge",
    "Judge",
    "LlamaGuardJudge",
    "PhraseJudge",
    "RubricJudge",
    "Verdict",
    "WildGuardJudge",
    "make_judge",
    "parse_judge",
]
