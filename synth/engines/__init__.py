"""Engines: everything that can chat, choose and score answers, behind one protocol.

    base            the protocols
    transformers    a model in this process; batches, loading and weights are its parts
    vllm, swapped   a model in vLLM, and several models that share it
    openai, server  a model on a server, and the client of the server
    replying, template, sampling, asking    what all engines do with prompts, texts, seeds, requests

Engines are not imported here, so that this package stays light.
"""

from synth.engines.base import Engine, Likelihood, SchemaEngine

__all__ = ["Engine", "Likelihood", "SchemaEngine"]
