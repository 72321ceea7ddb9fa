"""synth: probes, the engines that write and answer them, and the judges that grade them.

    writing      writes probes with a pool of models
    zoo          a small world with known truth, to try everything on
    importance   importance of every weight to a source's domain
    grading      is a reply to a probe right
    judges       does a reply comply, refuse, or is it broken
    gates        which questions are dropped before they are asked
    engines      models that chat, choose and score
    probes       the records and their files
    checkers     is a text the wanted answer
    text         what a reply says
    seeds        what probes are written about

Imports run down this list only. transformers and datasets are imported where they are needed.
"""

from synth.probes.probe import AXES, SPLITS, Axis, Probe, ProbeSet, Split

__all__ = ["AXES", "SPLITS", "Axis", "Probe", "ProbeSet", "Split"]
