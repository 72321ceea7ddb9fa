"""A run as pandas frames and plotly figures. Nothing is shown or printed here.

A figure is None where the run has nothing for it. What a figure says is in words too, in
`figure.layout.meta["said"]`: the text alternative of a page, the caption of a notebook.
"""

from search.results.figures.categories import categories
from search.results.figures.frames import (
    answer_frame,
    category_frame,
    flips,
    number_frame,
    trial_frame,
    weight_frame,
)
from search.results.figures.front import heldout_front, search_front, search_front_3d
from search.results.figures.generalization import generalization
from search.results.figures.hypervolume import hypervolume_over_evaluations
from search.results.figures.importance import importances, parameter_importance, slices
from search.results.figures.layers import depth_profiles, weight_map
from search.results.figures.parallel import parallel_coordinates
from search.results.figures.three_h import three_h

__all__ = [
    "answer_frame",
    "categories",
    "category_frame",
    "depth_profiles",
    "flips",
    "generalization",
    "heldout_front",
    "hypervolume_over_evaluations",
    "importances",
    "number_frame",
    "parallel_coordinates",
    "parameter_importance",
    "search_front",
    "search_front_3d",
    "slices",
    "three_h",
    "trial_frame",
    "weight_frame",
    "weight_map",
]
