"""Recipe: canonical JSON, hash, ranges."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safemerge import ModelRef, Recipe
from safemerge.errors import RecipeError

CONTENTS = {"base": "0" * 64, "a": "1" * 64, "b": "2" * 64}


def recipe(**changes: object) -> Recipe:
    fields: dict[str, object] = {
        "base": ModelRef(name="base", path="base"),
        "sources": (ModelRef(name="a", path="a"), ModelRef(name="b", path="b")),
        "method": "resm",
        "weights": {"default": {"a": 0.5, "b": 0.25}},
    }
    return Recipe.model_validate(fields | changes)


@given(
    weights=st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.dictionaries(
            st.sampled_from(["a", "b"]), st.floats(allow_nan=False, allow_infinity=False)
        ),
        min_size=1,
    ),
    ratio=st.floats(min_value=1e-6, max_value=1.0),
)
def test_json_round_trip_keeps_recipe_and_hash(
    weights: dict[str, dict[str, float]], ratio: float
) -> None:
    one = recipe(weights=weights, rank_ratio={"default": ratio})
    other = Recipe.from_json(one.canonical_json())
    assert other == one
    assert other.canonical_json() == one.canonical_json()
    assert other.hash(CONTENTS) == one.hash(CONTENTS)


def test_hash_ignores_paths_and_sees_everything_else() -> None:
    digest = recipe().hash(CONTENTS)
    moved = recipe(base=ModelRef(name="base", path="elsewhere/base"))
    assert moved.hash(CONTENTS) == digest
    changed = [
        recipe(weights={"default": {"a": 0.5, "b": 0.26}}).hash(CONTENTS),
        recipe(method="tsvm").hash(CONTENTS),
        recipe(dtype="bfloat16").hash(CONTENTS),
        recipe().hash(CONTENTS | {"b": "3" * 64}),
    ]
    assert len({digest, *changed}) == 5


def test_groups_fall_back_to_default_and_absent_sources_weigh_nothing() -> None:
    one = recipe(
        weights={"default": {"a": 1.0}, "layer.0": {"b": 2.0}}, rank_ratio={"layer.0": 0.5}
    )
    assert one.weights_at("layer.0") == [0.0, 2.0]
    assert one.weights_at("layer.9") == [1.0, 0.0]
    assert one.rank_ratio_at("layer.0") == 0.5
    assert one.rank_ratio_at("layer.9") is None


def test_per_source_numbers_fall_back_to_default_and_may_be_partial() -> None:
    one = recipe(per_source={"density": {"default": {"a": 0.5}, "layer.0": {"b": 0.25}}})
    assert one.per_source_at("density", "layer.0") == {"b": 0.25}
    assert one.per_source_at("density", "layer.9") == {"a": 0.5}
    assert one.per_source_at("gamma", "layer.9") == {}


def test_relative_paths_follow_the_recipe_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    recipe().save(tmp_path / "recipe.json")
    loaded = Recipe.load(tmp_path / "recipe.json")
    assert loaded.sources[0].path == str(tmp_path / "a")
    assert loaded.sources[1].path == "b"  # not there: it may be relative to the working folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {"default": {"c": 1.0}}}, r"names 'c'; sources are \['a', 'b'\]"),
        ({"weights": {}}, "weights is empty"),
        ({"rank_ratio": {"all": 0.0}}, r"rank_ratio\['all'\] is 0.0; the range is \(0, 1\]"),
        ({"rank_ratio": {"all": 1.5}}, r"rank_ratio\['all'\] is 1.5"),
        ({"per_source": {"density": {"all": {"c": 1}}}}, r"density\['all'\] names 'c'"),
        ({"places": "layer"}, "unknown place profile 'layer'"),
        ({"sources": []}, "sources"),
        ({"weigths": {}}, "there is no key 'weigths'; correct its spelling"),
        ({"sources": [{"name": "base", "path": "x"}]}, "different names"),
    ],
)
def test_what_is_out_of_range_is_refused_by_key(changes: dict[str, object], message: str) -> None:
    record = json.loads(recipe().canonical_json()) | changes
    with pytest.raises(RecipeError, match=message):
        Recipe.from_json(json.dumps(record))


def test_text_that_is_no_json_is_refused_with_the_place() -> None:
    with pytest.raises(RecipeError, match=r"it is not JSON \(.* at line 1 column 2\)"):
        Recipe.from_json("no recipe")


def test_a_weight_that_is_not_finite_is_refused() -> None:
    text = recipe().canonical_json().replace("0.25", "1e999")
    with pytest.raises(RecipeError, match=r"(?i)inf|finite"):
        Recipe.from_json(text)


def test_a_group_without_weights_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"no weights for place group 'layer.1' and no 'default'"):
        recipe(weights={"layer.0": {"a": 1.0}}).weights_at("layer.1")


def test_a_missing_recipe_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        Recipe.load(tmp_path / "none.json")
