"""Engines: everything that can chat, choose and score answers, behind one protocol.

`synth.engines.transformers` is the in-process engine; it is not imported here, so that this
package stays light.
"""

from synth.engines.base import Engine, Likelihood, SchemaEngine

__all__ = ["Engine", "Likelihood", "SchemaEngine"]
