"""How replies begin that decline: told apart by their first tokens, the commonest ways first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from synth.engines.transformers import TransformersEngine
from synth.probes.probe import Probe

OPENING_TOKENS = 3
_MOST = 2  # ways


def openings(engine: TransformersEngine, probes: Sequence[Probe]) -> list[str]:
    """Texts that begin as the wanted answers to direct probes do, one for each of the common ways.

    An answer is cut behind its first tokens where that leaves these as they are.
    """
    pairs = [(probe.prompt, probe.answer) for probe in probes if probe.form == "direct"]
    counted: Counter[tuple[int, ...]] = Counter()
    wording: dict[tuple[int, ...], tuple[str, str]] = {}
    for pair, (_, answer) in zip(pairs, engine.template.tokenize(pairs), strict=True):
        begin = tuple(answer[:OPENING_TOKENS])
        counted[begin] += 1
        wording.setdefault(begin, pair)
    found = []
    for begin, _ in counted.most_common(_MOST):
        prompt, whole = wording[begin]
        short = engine.tokenizer.decode(begin, skip_special_tokens=True).strip()
        ((_, again),) = engine.template.tokenize([(prompt, short)])
        found.append(short if tuple(again[:OPENING_TOKENS]) == begin else whole)
    return found
