"""DELLA without a sign consensus: DARE that drops small entries more often than large ones.

Source: Deep et al. 2024 (2406.11617), in the form of mergekit's `della_linear`. Within a row the
smallest entry is kept with probability density - epsilon, the largest with density + epsilon,
linear in the rank between (`keep_by_rank`). mergekit refuses an epsilon that leaves [0, 1]; here it
is narrowed, so that a search may vary both.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from safemerge.methods import dare_linear
from safemerge.methods.common.draws import keep_by_rank
from safemerge.methods.common.method import Selection, Site, Span, State
from safemerge.methods.common.sparse import DENSITY, DropParams, with_sizes


def prepare(base: Tensor, deltas: Tensor, params: DropParams, site: Site) -> State:
    """As `dare_linear.prepare`, with the length of a row, `columns`."""
    columns = site.columns or (deltas.shape[-1] if deltas.dim() > 1 else 1)
    state = dare_linear.prepare(base, deltas, params, site)
    return {**state, "columns": torch.tensor(columns)}


def select(state: State, selection: Selection, params: DropParams) -> State:
    """Draw as `dare_linear.select` does, by `density` and `epsilon`."""
    deltas, densities = state["deltas"], selection.per_source["density"]
    numbers = {"densities": densities, "epsilons": selection.per_source["epsilon"]}
    drawn_by = {
        "seeds": state["seeds"],
        **{name: torch.tensor(values, dtype=torch.float64) for name, values in numbers.items()},
    }
    keep = draw(deltas, drawn_by, int(state["begin"]), int(state["columns"]))
    return with_sizes({**drawn_by, "deltas": deltas, "keep": keep}, params, densities)


def draw(deltas: Tensor, state: State, begin: int, columns: int) -> Tensor:
    """K (n_sources, ...) in uint8, by the `seeds`, `densities` and `epsilons` of the state."""
    keep = torch.empty(deltas.shape, dtype=torch.uint8, device=deltas.device)
    for i, (seed, delta) in enumerate(zip(state["seeds"].tolist(), deltas, strict=True)):
        density, epsilon = (state[name][i].item() for name in ("densities", "epsilons"))
        rows = delta.reshape(-1, columns) if columns else delta
        keep[i] = keep_by_rank(seed, density, epsilon, rows, begin).reshape(delta.shape)
    return keep


def entries(base: Tensor, deltas: Tensor, state: State, site: Site) -> State:
    assert site.columns is not None  # of a piece
    return {"deltas": deltas, "keep": draw(deltas, state, site.begin, site.columns)}


METHOD = replace(
    dare_linear.METHOD,
    name="della_linear",
    prepare=prepare,
    select=select,
    rows=True,
    entries=entries,
    per_source={"density": DENSITY, "epsilon": Span(default=0.15, low=0.0, high=0.5)},
)
