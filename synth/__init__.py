"""synth: probes, the engines that write and answer them, and the judges that grade them.

Importing this package stays light: transformers and datasets are imported inside the functions
that need them. Engines live in `synth.engines`, judges in `synth.judges`, the pipeline in
`synth.writing`.
"""

from synth.probes.probe import AXES, SPLITS, Axis, Probe, ProbeSet, Split

__all__ = ["AXES", "SPLITS", "Axis", "Probe", "ProbeSet", "Split"]
