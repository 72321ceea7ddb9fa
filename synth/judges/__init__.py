"""Judges: who says whether a reply complies, refuses or is broken; `make_judge` makes one by name.

phrases      strings alone; for smoke tests and worlds with known phrasing
wildguard    WildGuard, which labels refusals
llama_guard  Llama Guard 3, which labels harm; phrases tell refusals from help
rubric       any chat model, a rubric and JSON
guard        what the three that ask a model have in common
ensemble     several judges, by vote
agreement    how far judges agree with people and with each other
"""

from synth.judges.by_name import make_judge, parse_judge
from synth.judges.judge import Judge
from synth.judges.phrases import PhraseJudge
from synth.probes.verdict import Verdict

__all__ = ["Judge", "PhraseJudge", "Verdict", "make_judge", "parse_judge"]
