"""The in-process engine on Hugging Face transformers: one causal model, CPU or GPU.

The search uses more than the protocol: `model` (the live module, which may be rewritten in place),
`tokenizer`, `encode` once and `score` often.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from safemerge.errors import BadInput
from synth.engines.asking import check_length
from synth.engines.base import FirstToken, Likelihood
from synth.engines.batches import MAX_LOGITS, Batch, answer_logprobs, left_padded, padded
from synth.engines.conversation import Prompt
from synth.engines.first_tokens import first_tokens
from synth.engines.halving import Halving
from synth.engines.loading import eos_ids, load_model, load_tokenizer, quiet
from synth.engines.output_matrix import keep_input_compact
from synth.engines.packing import pack
from synth.engines.packing_check import packable_tokens
from synth.engines.replying import ReplyingEngine, Sampling
from synth.engines.sampling import RowNoise
from synth.engines.template import ChatSettings, open_template
from synth.engines.weights import content_digest, load_weights

# Rows of one generate() call: small models are bound by the overhead per step, not by rows.
_CHAT_ROWS = 256
# Most tokens whose keys and values are held, prompts and replies: on a CPU 0.4 GB of a model of
# 135 M parameters.
_CHAT_TOKENS = {"cpu": 8192}
_OTHER_CHAT_TOKENS = 32768
# Most tokens of a packed row, by kind of device: attention costs their square, and a short row
# shares less.
_ROW_TOKENS = {"cpu": 512}
_OTHER_ROW_TOKENS = 2048


@dataclass(frozen=True, slots=True, eq=False)
class AnswerLogprobs:
    """Likelihoods of N pairs in the caller's order, on the CPU."""

    logprob: Tensor  # (N,) float32, summed over answer tokens
    tokens: Tensor  # (N,) int64
    greedy: Tensor  # (N,) bool


class TransformersEngine(ReplyingEngine):
    """An `Engine` around one causal language model in this process.

    Args:
        path_or_model: checkpoint folder, hub id, or a model that is already loaded. A loaded
            model is used as it is, put into evaluation mode and never copied.
        tokenizer: needed with a loaded model; else read from the checkpoint.
        device: where a checkpoint is loaded to; a loaded model stays on its device.
        dtype: of a loaded checkpoint, such as `torch.float32`; None keeps the checkpoint's, as far
            as the processor can compute in it, see `load_model`.
        batch_tokens: largest batch in tokens when scoring, padding included; default 2048 on a
            CPU, whose cache then holds the activations, else 16384. Packed rows are shorter.
        chat: how it is talked to: chat template and thinking.

    Raises:
        CheckpointError: if the checkpoint is missing, incomplete or not in safetensors.
        BadInput: if the tokenizer is missing, or its chat template cannot be used as wanted.
    """

    def __init__(
        self,
        path_or_model: str | Path | nn.Module,
        *,
        tokenizer: Any = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        batch_tokens: int | None = None,
        chat: ChatSettings | None = None,
    ) -> None:
        if isinstance(path_or_model, nn.Module):
            if tokenizer is None:
                raise BadInput("a loaded model comes without its tokenizer; pass tokenizer=...")
        elif tokenizer is None:
            tokenizer = load_tokenizer(path_or_model)
        self.tokenizer: Any = tokenizer
        self.template = open_template(tokenizer, chat)  # before a large model is loaded
        self.model: Any = (
            path_or_model
            if isinstance(path_or_model, nn.Module)
            else load_model(path_or_model, device, dtype)
        )
        self.model.eval()
        keep_input_compact(self.model)
        self._batch_tokens = batch_tokens or (2048 if self.device.type == "cpu" else 16384)
        settings = getattr(self.model, "generation_config", None)
        self._stops = self.template.stops | eos_ids(settings)
        self._scoring, self._replying = Halving("scoring"), Halving("generating")

    @property
    def device(self) -> torch.device:
        """Where the model's weights lie."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """See `Engine.loglikelihood`."""
        scores = self.score(self.encode(pairs))
        columns = (scores.logprob.tolist(), scores.tokens.tolist(), scores.greedy.tolist())
        return [Likelihood(*row) for row in zip(*columns, strict=True)]

    def encode(
        self, pairs: Sequence[tuple[str, str]], scored: Sequence[int | None] | None = None
    ) -> tuple[Batch, ...]:
        """Pairs as batches on the model's device, to be scored many times.

        Those that the model reads rightly in packed rows are packed, the others padded.

        Args:
            pairs: prompts and answers.
            scored: of each answer how many of its first tokens are scored; None for all of them.

        Raises:
            BadInput: if a pair is longer than the model's context.
        """
        encoded = self.template.tokenize(pairs)
        if scored is not None:
            cut = zip(encoded, scored, strict=True)
            encoded = [(prompt, answer[:count]) for (prompt, answer), count in cut]
        if not encoded:
            return ()
        lengths = [len(prompt) + len(answer) for prompt, answer in encoded]
        longest = max(range(len(pairs)), key=lengths.__getitem__)
        self._check_length(lengths[longest], pairs[longest][0])
        short = [row for row, length in enumerate(lengths) if length <= self._packable_tokens]
        long = [row for row, length in enumerate(lengths) if length > self._packable_tokens]
        answer_tokens = MAX_LOGITS // len(self.tokenizer)
        batches = (
            *pack(encoded, short, self._packable_tokens, answer_tokens),
            *padded(self.template, encoded, long, self._batch_tokens),
        )
        return tuple(batch.to(self.device) for batch in batches)

    @cached_property
    def _packable_tokens(self) -> int:
        """The longest packed row; 0 where none is read rightly."""
        most = _ROW_TOKENS.get(self.device.type, _OTHER_ROW_TOKENS)
        return packable_tokens(self.model, self.template, min(most, self._batch_tokens))

    def score(self, batches: Sequence[Batch]) -> AnswerLogprobs:
        """Score encoded pairs with the model's current weights, in the caller's order."""
        count = sum(len(batch.rows) for batch in batches)
        logprob = torch.empty(count, dtype=torch.float32)
        tokens = torch.empty(count, dtype=torch.int64)
        greedy = torch.empty(count, dtype=torch.bool)
        with torch.inference_mode():
            for batch in batches:
                score = partial(self._score, batch)
                height, width = batch.input_ids.shape
                for rows, scored in self._scoring.parts(height, width, score):
                    at = batch.rows if batch.tree else batch.rows[rows]
                    logprob[at], tokens[at], greedy[at] = scored
        return AnswerLogprobs(logprob, tokens, greedy)

    def _score(self, batch: Batch, rows: slice) -> list[Tensor]:
        """What `answer_logprobs` returns of some rows of a batch, on the CPU."""
        part = batch.part(rows)
        return [v.cpu() for v in answer_logprobs(part.answer_logits(self.model), part)]

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """In place; see `Engine.load_weights`."""
        load_weights(self.model, state)

    def fingerprint(self) -> str:
        """See `Engine.fingerprint`."""
        weights = sorted(self.model.state_dict().items())
        return self.template.sign(content_digest(self.model.config.to_dict(), weights))

    def generate(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling
    ) -> list[str]:
        """See `ReplyingEngine.generate`; in batches of about the same length."""
        texts = self.template.render(prompts, system=sampling.system)
        most = sampling.max_tokens + self.template.budget
        replies = [""] * len(prompts)
        for rows, encoded in self._batches(texts, prompts, most):
            own = [seeds[row] for row in rows]
            decode = partial(self._decode, encoded, most, own, sampling.temperature)
            width = max(map(len, encoded)) + most
            for part, decoded in self._replying.parts(len(rows), width, decode):
                for row, reply in zip(rows[part], decoded, strict=True):
                    replies[row] = reply
        return replies

    def first_tokens(self, prompts: Sequence[Prompt]) -> list[list[FirstToken]]:
        """See `FirstTokenEngine.first_tokens`."""
        told: list[list[FirstToken]] = [[] for _ in prompts]
        texts = self.template.render(prompts, answer=True)
        for rows, encoded in self._batches(texts, prompts, 1):
            tops = first_tokens(self.model, self.tokenizer, encoded, min(self._stops))
            for row, top in zip(rows, tops, strict=True):
                told[row] = top
        return told

    def _batches(
        self, texts: list[str], prompts: Sequence[Prompt], max_tokens: int
    ) -> Iterator[tuple[list[int], list[list[int]]]]:
        """Rows and token ids of rendered prompts, in batches of about the same length."""
        if not texts:
            return
        encoded = self.template.ids(texts)
        order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))
        widest = len(encoded[order[-1]]) + max_tokens
        self._check_length(widest, prompts[order[-1]])
        step = self.chat_rows(widest)
        for start in range(0, len(order), step):
            rows = order[start : start + step]
            yield rows, [encoded[row] for row in rows]

    def _decode(
        self,
        prompts: Sequence[list[int]],
        max_tokens: int,
        seeds: Sequence[int],
        temperature: float,
        rows: slice,
    ) -> list[str]:
        """Replies to some rows of tokenised prompts."""
        from transformers import GenerationConfig

        pad = min(self._stops)
        noise = RowNoise(temperature, seeds[rows]) if temperature else None
        input_ids = left_padded(prompts[rows], pad)
        mask = left_padded([[1] * len(ids) for ids in prompts[rows]], 0)
        config = GenerationConfig(
            max_new_tokens=max_tokens, pad_token_id=pad, eos_token_id=sorted(self._stops)
        )
        # generate() fills what is unset from the checkpoint's own settings, whose repetition
        # penalty or top_k would make greedy replies disagree with scoring: set those aside.
        stored = self.model.generation_config
        self.model.generation_config = config
        try:
            with torch.inference_mode(), quiet():
                out = self.model.generate(
                    input_ids=input_ids.to(self.device),
                    attention_mask=mask.to(self.device),
                    logits_processor=[] if noise is None else [noise],
                )
        finally:
            self.model.generation_config = stored
        return self.template.decode(out[:, input_ids.shape[1] :].tolist(), self._stops)

    def chat_rows(self, width: int) -> int:
        """Prompts of one generate() call, where the longest and its reply have `width` tokens."""
        tokens = _CHAT_TOKENS.get(self.device.type, _OTHER_CHAT_TOKENS)
        return max(1, min(_CHAT_ROWS, tokens // width))

    def _check_length(self, length: int, prompt: Prompt) -> None:
        limit = getattr(self.model.config, "max_position_embeddings", None)
        check_length(length, limit, prompt)
