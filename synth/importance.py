"""Importance of every weight to one source's domain, from gradients of the likelihood of answers.

The score of LED-Merging (Ma et al. 2025, 2502.16770): I = E_x |theta * grad L(x)|, with L the
negative log-likelihood of an answer, once for the base and once for the source, on examples of the
source's domain. `led` asks whether an entry is near the top in both, so the worse of its two
positions is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safemerge.errors import BadInput, RecipeError, near_names
from safemerge.inputs import open_inputs
from safemerge.io import save_importance
from safemerge.live import stored_views
from safemerge.methods.common.importance_order import positions
from safemerge.recipe import Recipe
from synth.engines.batches import Batch, answer_logprobs, encode
from synth.engines.transformers import TransformersEngine


def write_importance(
    engine: TransformersEngine,
    recipe: Recipe,
    source: str,
    pairs: Sequence[tuple[str, str]],
    out: str | Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the importance file of one source, by two backward passes for each pair.

    Args:
        engine: the recipe's base, best in float32; it holds the source's weights afterwards.
        recipe: names base and sources; nothing else of it is used.
        source: name of the source.
        pairs: (prompt, answer) of the source's domain, such as its probes; a few dozen.
        out: the file; an older one is replaced.
        progress: called with (passes done, passes in all).

    Raises:
        BadInput: no pairs, an unknown source, checkpoints that do not fit, an output that cannot be
            written.
    """
    names = [ref.name for ref in recipe.sources]
    if source not in names:
        raise RecipeError(f"the recipe has no source {source!r}; {near_names(source, names)}")
    if not pairs:
        raise BadInput("importance is measured on (prompt, answer) pairs, but there are none")
    # The files to be written need not be there.
    bare = [ref.model_copy(update={"importance": None}) for ref in recipe.sources]
    inputs = open_inputs(recipe.model_copy(update={"sources": tuple(bare)}))
    # One pair each: the score is a mean of magnitudes, not the magnitude of a mean.
    encoded = encode(engine.template, pairs, batch_tokens=1)
    batches = [batch.to(engine.device) for batch in encoded]
    passes = itertools.count(1)

    def one_more() -> None:
        if progress is not None:
            progress(next(passes), 2 * len(batches))

    of_base = _positions(engine.model, inputs.merged_names, batches, one_more)
    with torch.no_grad():
        for name, view in stored_views(engine.model, inputs.merged_names).items():
            view.copy_(inputs.source_tensor(names.index(source), name))
    of_source = _positions(engine.model, inputs.merged_names, batches, one_more)
    worse = {name: torch.maximum(of_base[name], of_source[name]).contiguous() for name in of_base}
    save_importance(out, worse)


def _positions(
    model: Any, names: Sequence[str], batches: Sequence[Batch], done: Callable[[], None]
) -> Mapping[str, Tensor]:
    """Position of every entry of the stored tensors, on the CPU."""
    parameters = list(model.parameters())
    scores = [torch.zeros_like(parameter) for parameter in parameters]
    model.requires_grad_(True)
    for batch in batches:
        loss = -answer_logprobs(batch.answer_logits(model), batch)[0].sum()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for score, parameter, gradient in zip(scores, parameters, gradients, strict=True):
            if gradient is not None:
                score += (parameter.detach() * gradient).abs()
        done()
    # The scores take the parameters' places for a moment, to be seen as the checkpoint stores them.
    values = [parameter.data for parameter in parameters]
    for parameter, score in zip(parameters, scores, strict=True):
        parameter.data = score
    try:
        views = stored_views(model, names)
        return {name: positions(view.detach()).cpu() for name, view in views.items()}
    finally:
        for parameter, value in zip(parameters, values, strict=True):
            parameter.data = value
