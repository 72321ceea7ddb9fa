"""Engines: everything that can chat, choose and score answers, behind the protocols of `base`.

They are not imported here, so that this package stays light.
"""

from synth.engines.base import Engine, Likelihood, SchemaEngine

__all__ = ["Engine", "Likelihood", "SchemaEngine"]
