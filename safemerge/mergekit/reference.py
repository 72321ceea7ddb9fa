"""What mergekit 0.1.5 knows of each merge method that safemerge has too: parameters and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from safemerge.mergekit.settings import Scalar


@dataclass(frozen=True, slots=True)
class MergekitMethod:
    """A merge method of mergekit."""

    # parameters that each model has, and those of the whole merge, with defaults; None is required
    per_model: Mapping[str, float | None] = field(default_factory=dict)
    shared: Mapping[str, Scalar | None] = field(default_factory=dict)
    # "deltas" of the models to a base_model that has no parameters of its own; all "models", a
    # base_model among them; "two", from the base_model to the other one; or "either": deltas
    # where there is a base_model, else models
    merges: Literal["deltas", "models", "two", "either"] = "deltas"
    # those of `shared` that here are weights or numbers of the sources
    per_source: frozenset[str] = frozenset()
    most: int | None = None  # models besides the base


def _sparse(normalize: bool, rescale: bool, **per_model: float) -> MergekitMethod:
    shared = {"normalize": normalize, "rescale": rescale, "lambda": 1.0, "int8_mask": False}
    return MergekitMethod({"weight": None, "density": 1.0, **per_model}, shared)


MERGEKIT_METHODS: dict[str, MergekitMethod] = {
    "linear": MergekitMethod({"weight": None}, {"normalize": True}, merges="models"),
    "passthrough": MergekitMethod({"scale": 1.0}, merges="models", most=1),
    "karcher": MergekitMethod({}, {"max_iter": 10, "tol": 1e-5}, merges="models"),
    "slerp": MergekitMethod({}, {"t": None}, merges="two", per_source=frozenset({"t"})),
    # density and rescale are accepted there too, and change nothing.
    "task_arithmetic": MergekitMethod(
        {"weight": None},
        {"normalize": False, "lambda": 1.0, "int8_mask": False},
        per_source=frozenset({"normalize"}),
    ),
    "ties": _sparse(normalize=True, rescale=False),
    "dare_ties": _sparse(normalize=False, rescale=True),
    "dare_linear": _sparse(normalize=False, rescale=True),
    "breadcrumbs": _sparse(normalize=False, rescale=False, gamma=0.01),
    "breadcrumbs_ties": _sparse(normalize=False, rescale=False, gamma=0.01),
    "della": _sparse(normalize=True, rescale=True, epsilon=0.15),
    "della_linear": _sparse(normalize=False, rescale=True, epsilon=0.15),
    "model_stock": MergekitMethod({}, {"filter_wise": False}),
    "nuslerp": MergekitMethod(
        {"weight": None},
        {"nuslerp_flatten": True, "nuslerp_row_wise": False},
        merges="either",
        most=2,
    ),
    "multislerp": MergekitMethod(
        {"weight": None}, {"normalize_weights": True, "eps": 1e-8}, merges="either"
    ),
    "nearswap": MergekitMethod({}, {"t": None}, per_source=frozenset({"t"}), most=1),
    "arcee_fusion": MergekitMethod(most=1),
    "ram": MergekitMethod({}, {"epsilon": 1e-5}),
    "ramplus_tl": MergekitMethod({}, {"epsilon": 1e-5, "r": 0.1, "alpha": 0.2}),
    "sce": MergekitMethod(
        {}, {"int8_mask": False, "select_topk": 1.0}, per_source=frozenset({"select_topk"})
    ),
}

# Parameters of the whole merge that have another name here, or other values.
RENAMED = {"lambda": "scale", "normalize_weights": "normalize", "nuslerp_row_wise": "columns"}
VALUES: Mapping[str, Mapping[Scalar, Scalar]] = {"rescale": {False: "none", True: "l1"}}

# Every parameter that one of these methods reads.
PARAMETERS = frozenset(
    name for known in MERGEKIT_METHODS.values() for name in (*known.per_model, *known.shared)
)


# Methods of mergekit that are two here: `{name: (parameter, value, our name of that)}`.
VARIANTS: Mapping[str, tuple[str, bool, str]] = {
    "model_stock": ("filter_wise", True, "model_stock_rows"),
    "nuslerp": ("nuslerp_flatten", False, "nuslerp_rows"),
}
