"""How hard domain questions are for the models at hand, and what is thinned for it. Ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from synth.gates.pass_rate import Level, too_many
from synth.writing.answered import Answered, shares_right
from synth.writing.context import Outcome, Workshop


def levels_of(
    shop: Workshop, answered: Sequence[Answered], turn: int, *, expert_knows: bool
) -> list[Level]:
    """How hard each question is, with no passage shown, by samples of the models' answers."""
    settings = shop.config.domain
    if not settings.asks_how_hard:
        return [Level.FAIR for _ in answered]
    prompts = [one.question.prompt for one in answered]
    names = [settings.base, *(name for name in shop.pool if name != settings.base)]
    easy: list[bool] = []
    known = [expert_knows for _ in answered]
    for name in names[:1] if expert_knows else names:
        shares = shares_right(shop, name, prompts, answered, "difficulty", turn)
        easy = easy or [share == 1 for share in shares]
        known = [so_far or share > 0 for so_far, share in zip(known, shares, strict=True)]
    return [
        Level.EASY if always else Level.FAIR if ever else Level.HARD
        for always, ever in zip(easy, known, strict=True)
    ]


def thin(shop: Workshop, out: Outcome, levels: Mapping[str, Level], of: int) -> None:
    """Drop what is too easy or too hard beyond its share of `of`."""
    settings = shop.config.domain
    if not settings.asks_how_hard:
        return
    own = [levels[probe.prompt] for probe in out.probes]
    beyond = too_many(own, easy=settings.easy, hard=settings.hard, of=of)
    gone = [
        pair for pair, more in zip(zip(out.probes, own, strict=True), beyond, strict=True) if more
    ]
    for level in Level:
        out.drop([probe for probe, held in gone if held == level], f"too {level}")


def thin_to_the_end(shop: Workshop, out: Outcome, levels: Mapping[str, Level]) -> None:
    """Hold the shares of what there is, where it is less than what was wanted."""
    before = -1
    while before != len(out.probes):
        before = len(out.probes)
        thin(shop, out, levels, min(before, shop.config.counts.domain))
