"""The vLLM engine: one causal model in vLLM, inside this process, on its GPU or CPU.

It needs of vLLM 0.32 and newer its public `LLM` and the worker method `reload_weights`. Texts go
through `template.py`, as in the transformers engine, so that both give the same greedy tokens and
likelihoods. vLLM never gives memory back: open one engine in a process and swap its weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safemerge.errors import EngineError
from safemerge.io import open_checkpoint
from safemerge.io.tied_weights import tied_embedding
from safemerge.names import is_constant
from synth.engines.asking import check_arguments, check_length, first_line
from synth.engines.base import FIRST_TOKENS, FirstToken, Likelihood
from synth.engines.conversation import Prompt
from synth.engines.loading import eos_ids, load_tokenizer, quiet
from synth.engines.replying import Sampling, SchemaReplyingEngine
from synth.engines.template import ChatSettings, open_template
from synth.engines.vllm_start import import_vllm, start
from synth.engines.weights import check_state, content_digest

# What the engine itself decides.
_OWN = ("dtype", "load_format", "model", "revision", "tokenizer", "trust_remote_code")


class VllmEngine(SchemaReplyingEngine):
    """An `Engine`, and a `SchemaEngine`, around one model in vLLM.

    Args:
        path: checkpoint folder, or hub id as org/name or org/name@revision; safetensors only.
        dtype: such as `torch.float32`; None lets vLLM choose, mostly the checkpoint's.
        arguments: of `vllm.LLM`, such as `{"gpu_memory_utilization": 0.5, "max_model_len": 4096}`.
        chat: how it is talked to: chat template and thinking.

    Raises:
        MissingDependency: if vLLM is not installed or cannot be imported.
        CheckpointError: if the checkpoint is missing, incomplete or not in safetensors.
        BadInput: if the chat template cannot be used as wanted, or vLLM refuses the model or an
            argument.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        dtype: torch.dtype | None = None,
        arguments: Mapping[str, Any] | None = None,
        chat: ChatSettings | None = None,
    ) -> None:
        arguments = arguments or {}
        check_arguments(arguments, _OWN)
        self._vllm = import_vllm()
        self._checkpoint = open_checkpoint(path)
        self.tokenizer = load_tokenizer(self._checkpoint.folder)
        self.template = open_template(self.tokenizer, chat)
        self._stops = self.template.stops | _own_stops(self._checkpoint.folder)
        self.llm = start(self._vllm, self._checkpoint, dtype, arguments)
        self._limit: int = self.llm.llm_engine.model_config.max_model_len
        self._digest = ""
        self._broken = ""

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """See `Engine.loglikelihood`; a pair must be shorter than the context by a token."""
        encoded = self.template.tokenize(pairs)
        for (prompt, _), (before, after) in zip(pairs, encoded, strict=True):
            check_length(len(before) + len(after), self._limit - 1, prompt)
        params = self._params(max_tokens=1, prompt_logprobs=0)
        outputs = self._run([before + after for before, after in encoded], params)
        likelihoods = []
        for (before, after), output in zip(encoded, outputs, strict=True):
            places = output.prompt_logprobs[len(before) :]
            tokens = [place[token] for place, token in zip(places, after, strict=True)]
            total = sum(token.logprob for token in tokens)
            greedy = all(token.rank == 1 for token in tokens)
            likelihoods.append(Likelihood(total, len(after), greedy))
        return likelihoods

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """In place, by stored name and in any dtype; see `Engine.load_weights`.

        A tied head may be left out; if given it must equal the embedding.

        Raises:
            BadInput: for other tensors than the checkpoint's; the old weights stay.
            EngineError: if vLLM fails on the way, which leaves an engine that answers no more.
        """
        self._check_sound()
        tensors = self._whole(state)
        with self._broken_by("a swap of its weights"):
            self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": tensors})
            self.llm.reset_prefix_cache()
        self._digest = content_digest(self._checkpoint.config, tensors)

    def fingerprint(self) -> str:
        """See `Engine.fingerprint`."""
        self._check_sound()
        if not self._digest:
            stored = {name: self._checkpoint.load(name) for name in self._checkpoint.tensors}
            self._digest = content_digest(self._checkpoint.config, self._whole(stored))
        return self.template.sign(self._digest)

    def generate(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling
    ) -> list[str]:
        """See `ReplyingEngine.generate`; samples are not those of the transformers engine."""
        # A schema holds from the first token on, which leaves no room for thinking.
        held = sampling.schema is not None
        most = sampling.max_tokens + (0 if held else self.template.budget)
        texts = self.template.render(prompts, system=sampling.system, answer=held)
        encoded = self._encoded(texts, prompts, most)
        params = [
            self._params(
                schema=sampling.schema,
                max_tokens=most,
                temperature=sampling.temperature,
                seed=seed if sampling.temperature else None,
            )
            for seed in seeds
        ]
        rows = [output.outputs[0].token_ids for output in self._run(encoded, params)]
        return self.template.decode(rows, self._stops, answer=held)

    def first_tokens(self, prompts: Sequence[Prompt]) -> list[list[FirstToken]]:
        """See `FirstTokenEngine.first_tokens`."""
        encoded = self._encoded(self.template.render(prompts, answer=True), prompts, 1)
        outputs = self._run(encoded, self._params(max_tokens=1, logprobs=FIRST_TOKENS))
        return [
            [
                FirstToken(self.tokenizer.decode([token]), told.logprob)
                for token, told in output.outputs[0].logprobs[0].items()
            ]
            for output in outputs
        ]

    def _encoded(
        self, texts: Sequence[str], prompts: Sequence[Prompt], max_tokens: int
    ) -> list[list[int]]:
        """Token ids of rendered prompts that leave room for a reply."""
        encoded = self.template.ids(texts)
        for prompt, ids in zip(prompts, encoded, strict=True):
            check_length(len(ids) + max_tokens, self._limit, prompt)
        return encoded

    def _params(self, *, schema: dict[str, Any] | None = None, **settings: Any) -> Any:
        from vllm.sampling_params import StructuredOutputsParams

        return self._vllm.SamplingParams(
            **{"temperature": 0.0, **settings},
            stop_token_ids=sorted(self._stops),
            structured_outputs=None if schema is None else StructuredOutputsParams(json=schema),
            detokenize=False,
        )

    def _run(self, prompts: Sequence[list[int]], params: Any) -> list[Any]:
        self._check_sound()
        if not prompts:
            return []
        with self._broken_by("an earlier request"):
            outputs: list[Any] = self.llm.generate(
                [{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False
            )
        return outputs

    @contextmanager
    def _broken_by(self, what: str) -> Iterator[None]:
        """An engine in which `what` does not come to its end answers no more."""
        self._broken = f"{what} was interrupted"
        try:
            yield
        except Exception as error:
            self._broken = f"{what} failed ({first_line(error)})"
            self._check_sound()
        self._broken = ""

    def _whole(self, state: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
        """Everything that vLLM must be given, in a fixed order, after a check of `state`.

        A tied head is named on its own, and no part of a fused projection is left out: vLLM
        would keep wrong values for either without a word.
        """
        stored = self._checkpoint.tensors
        heads = {tied_embedding(head, stored): head for head in self._checkpoint.tied}
        groups = [
            ([name, heads[name]] if name in heads else [name], info.shape)
            for name, info in stored.items()
            if name not in self._checkpoint.tied
        ]
        # Whole numbers and tables computed from the configuration are no weights.
        fixed = (n for n, info in stored.items() if not info.is_float or is_constant(n))
        state = {**{n: self._checkpoint.load(n) for n in fixed if n not in state}, **state}
        check_state(state, groups)
        tensors = []
        for names, _ in groups:
            tensor = next(state[name] for name in names if name in state).detach()
            tensors += [(name, tensor) for name in names]
        return tensors

    def _check_sound(self) -> None:
        if self._broken:
            raise EngineError(
                f"the vLLM engine of {self._checkpoint.source!r} cannot go on: {self._broken}; "
                "open a new one in a new process"
            )


def _own_stops(folder: Path) -> frozenset[int]:
    """Ends of turn that the checkpoint's generation settings name."""
    from transformers import AutoConfig, GenerationConfig

    with quiet():
        try:
            return eos_ids(GenerationConfig.from_pretrained(folder))
        except OSError:
            return eos_ids(AutoConfig.from_pretrained(folder, trust_remote_code=False))
