"""Methods equal the reference implementation, tensor by tensor, in float32.

The files hold what mergekit 0.1.5 wrote; tests/data/goldens/README.md says how. Recipes as YAML are
compared in test_mergekit.py.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from safemerge.factors import factorise
from safemerge.methods import METHODS, Selection, Site

ABC = [0.5, 0.3, 0.4]


def sources(goldens: Path, names: str) -> dict[str, Tensor]:
    """Tensors of several models: `{tensor: (n_models, *shape)}`; `_` is the base."""
    models = [
        load_file(goldens / "models" / name.replace("_", "base") / "model.safetensors")
        for name in names
    ]
    return {tensor: torch.stack([model[tensor] for model in models]) for tensor in models[0]}


@pytest.mark.parametrize(
    ("method", "names", "weights", "numbers", "params"),
    [
        ("linear", "_abc", [1.0, 0.5, 0.3, 0.4], {}, {}),
        ("slerp", "_a", [0.65, 0.35], {}, {}),
        ("karcher", "abc", [1.0, 1.0, 1.0], {}, {}),
        ("task_arithmetic", "abc", ABC, {}, {"scale": 0.9}),
        ("model_stock", "abc", [1.0, 1.0, 1.0], {}, {}),
        ("ties", "abc", ABC, {"density": 0.4}, {}),
        ("breadcrumbs", "abc", ABC, {"density": 0.4, "gamma": 0.05}, {}),
        ("breadcrumbs_ties", "abc", ABC, {"density": 0.4, "gamma": 0.05}, {"normalize": True}),
        ("sce", "abc", [1.0, 1.0, 1.0], {"density": 0.5}, {}),
    ],
)
def test_a_method_gives_the_reference_numbers(
    method: str,
    names: str,
    weights: list[float],
    numbers: dict[str, float],
    params: dict[str, object],
    goldens: Path,
) -> None:
    chosen = METHODS[method]
    parsed = chosen.parse(params)
    selection = Selection(
        per_source={name: (value,) * len(names) for name, value in numbers.items()}
    )
    bases = sources(goldens, "_")
    expected = load_file(goldens / "expected" / f"{method}.safetensors")
    tolerance = 2e-5 if method == "karcher" else 2e-6  # karcher iterates
    for name, tuned in sources(goldens, names).items():
        base = bases[name][0]
        state = chosen.prepare(base, tuned - base, parsed, Site(name, tuple(names), factorise))
        if chosen.select is not None:
            state = chosen.select(state, selection, parsed)
        merged = chosen.merged(base, state, torch.tensor(weights), parsed)
        torch.testing.assert_close(merged, expected[name], atol=tolerance, rtol=0)
