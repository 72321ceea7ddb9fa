"""Where a guard's model runs: in this process, in vLLM, or at a server.

FOLDER or org/name[@revision]     transformers, in this process
vllm:FOLDER or vllm:org/name      vLLM, in this process
http://host:8000/v1[#NAME]        a server of OpenAI's protocol; NAME where it has several models
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from safemerge.errors import BadInput, CheckpointError
from synth.engines.base import Engine
from synth.judges.guard_model import GuardModel

VLLM = "vllm:"
_SERVERS = ("http://", "https://")
_NO_BUDGET = 1  # of tokens for thinking: what a guard thinks is counted in its `tokens`


def is_server(model: str) -> bool:
    """Whether a model is named by the url of its server."""
    return model.startswith(_SERVERS)


def fetch(kind: str, model: str) -> Path | None:
    """The folder of a judge's model, downloaded if need be; None for a server's.

    Raises:
        CheckpointError: that names the judge and the model where it cannot be had.
    """
    if is_server(model):
        return None
    from safemerge.io.hub import local_folder

    name = model.removeprefix(VLLM)
    try:
        return local_folder(name)
    except CheckpointError as error:
        raise CheckpointError(
            f"the model {name!r} of the judge {kind!r} could not be fetched: {error}"
        ) from error


def open_engine(guard: GuardModel, model: str, *, device: str, key: str | None) -> Engine:
    """An engine for a guard's model, asked in the guard's format.

    Raises:
        BadInput: for a model whose chat template is not that of such guards.
        CheckpointError: if the model cannot be had or loaded.
        EngineError: if its server cannot be reached.
    """
    from synth.engines.template import ChatSettings

    chat = ChatSettings(guard.template, guard.thinking, _NO_BUDGET, guard.settings)
    folder = fetch(guard.kind, model)
    if folder is None:
        from synth.engines.openai import OpenAIEngine
        from synth.engines.server import ServerSettings

        url, _, name = model.partition("#")
        server = ServerSettings(url, name or None, key, arguments=guard.request)
        # Without its tokenizer here a model is asked by the template of its server.
        return OpenAIEngine(server, chat=replace(chat, template=None))
    if guard.sign:
        _check_sign(guard, folder)
    if model.startswith(VLLM):
        from synth.engines.vllm import VllmEngine

        return VllmEngine(folder, chat=chat)
    from synth.engines.transformers import TransformersEngine

    return TransformersEngine(folder, device=device, chat=chat)


def _check_sign(guard: GuardModel, folder: Path) -> None:
    """Refuse a model whose own chat template is not that of such guards."""
    from synth.engines.loading import load_tokenizer

    template = load_tokenizer(folder).chat_template
    if not isinstance(template, str) or guard.sign not in template:
        raise BadInput(
            f"the model in {folder} is not made for the judge {guard.kind!r}: its chat template "
            f"has no {guard.sign!r}; name the judge of the model's own format"
        )
