"""Probes as what a mixture learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from safemerge.fusion.examples import Example
from synth.engines.asking import check_length
from synth.engines.template import ChatTemplate
from synth.probes.probe import Probe


def probe_examples(
    template: ChatTemplate,
    probes: Sequence[Probe],
    experts: Mapping[str, int],
    limit: int | None = None,
) -> list[Example]:
    """Probes as examples, in their order, each with the number of its axis's expert.

    Args:
        experts: `{axis: number}`; probes of other axes have no expert.
        limit: tokens that the model's context holds; a BadInput where one is longer.
    """
    pairs = template.tokenize([(probe.prompt, probe.answer) for probe in probes])
    for probe, (prompt, answer) in zip(probes, pairs, strict=True):
        check_length(len(prompt) + len(answer), limit, probe.prompt)
    return [
        Example(tuple(prompt), tuple(answer), experts.get(probe.axis))
        for probe, (prompt, answer) in zip(probes, pairs, strict=True)
    ]
