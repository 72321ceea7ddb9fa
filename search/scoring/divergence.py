"""How far a model's next tokens have moved from the base's, on replies that the base itself gave.

For one prompt, with p the base, q the model, y the base's reply to the prompt x:

    D = mean over t of KL(p(. | x, y_<t) || q(. | x, y_<t)),   in nats a token

(Kullback and Leibler 1951), over the first tokens of y. 0 is a model that goes on as the base does;
there is no upper end.

Of the base's distributions the likeliest `TOP` tokens are kept, and all others as one. Merging
outcomes never makes the divergence larger (data-processing inequality; Cover and Thomas 2006,
section 2.8), so the value is a lower bound; of a vocabulary of at most `TOP` tokens it is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from synth.engines.transformers import TransformersEngine

TOP = 1024
# Of each reply. Damage shows where a reply begins, and a longer one would only thin it out.
TOKENS = 32


@dataclass(frozen=True, slots=True, eq=False)
class NextTokens:
    """T distributions over the next token, of which K tokens are told apart."""

    tokens: Tensor  # (T, K) int32, the likeliest ones
    logprobs: Tensor  # (T, K + 1) float32, theirs and that of all others; (T, K) where K is all

    @classmethod
    def of(cls, logits: Tensor, most: int = TOP) -> NextTokens:
        """Of logits (T, V), float32, with K at most `most`."""
        tokens = logits.topk(min(most, logits.shape[-1]), dim=-1).indices.int()
        return cls(tokens, _merged(logits, tokens))

    def divergence(self, logits: Tensor) -> Tensor:
        """KL of these distributions from those of a model's logits (T, V), in nats, (T,) float64.

        At least 0; NaN or infinite where the model's are broken.
        """
        mine, model = self.logprobs, _merged(logits, self.tokens)
        # Where there is no probability at all, 0 log 0 = 0.
        terms = torch.where(mine == -torch.inf, 0.0, mine.exp() * (mine - model))
        return terms.double().sum(dim=-1).clamp(min=0.0)


class Divergence:
    """Divergence of an engine's live weights from those that it had when this was made.

    Attributes:
        pairs: the prompts, each with the beginning of the base's reply.
    """

    def __init__(
        self, engine: TransformersEngine, prompts: Sequence[str], replies: Sequence[str]
    ) -> None:
        """Read the base's distributions; its weights must be live.

        Args:
            prompts: at least one.
            replies: the base's to each of them.
        """
        self._engine = engine
        starts = [_start(engine, reply) for reply in replies]
        self.pairs = list(zip(prompts, starts, strict=True))
        self._batches = engine.encode(self.pairs)
        self._base = {row: NextTokens.of(logits) for row, logits in self._next_tokens(engine)}

    def measure(self, engine: TransformersEngine | None = None) -> list[float]:
        """D of each prompt, in their order; exactly 0 for the base.

        `engine` is another one of the same tokens, whose divergence is measured instead.
        """
        values = {}
        for row, logits in self._next_tokens(engine or self._engine):
            values[row] = self._base[row].divergence(logits).mean().item()
        return [values[row] for row in range(len(values))]

    def _next_tokens(self, engine: TransformersEngine) -> Iterator[tuple[int, Tensor]]:
        """Each prompt's number with the logits (T, V) of its reply's tokens, one at a time."""
        with torch.inference_mode():
            for batch in self._batches:
                logits = batch.answer_logits(engine.model).split_with_sizes(batch.counts)
                for row, own in zip(batch.rows.tolist(), logits, strict=True):
                    yield row, own.float()


def _start(engine: TransformersEngine, reply: str) -> str:
    """The first tokens of a reply as text."""
    tokens = engine.tokenizer(reply, add_special_tokens=False)["input_ids"]
    if len(tokens) <= TOKENS:
        return reply
    # A cut may fall inside a letter of several tokens.
    start: str = engine.tokenizer.decode(tokens[:TOKENS], skip_special_tokens=True)
    return start.rstrip("\ufffd")


def _merged(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities (T, K + 1) of tokens (T, K) and of all others together; else (T, K)."""
    total = logits.logsumexp(dim=-1, keepdim=True)
    columns = tokens.long()
    kept = logits.gather(-1, columns) - total
    if tokens.shape[-1] == logits.shape[-1]:
        return kept
    # Not as 1 minus the sum, which float32 cannot tell from 0 where the others are unlikely.
    others = logits.scatter(-1, columns, -torch.inf).logsumexp(dim=-1, keepdim=True) - total
    return torch.cat([kept, others], dim=-1)
