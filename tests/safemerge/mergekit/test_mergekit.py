"""mergekit's YAML: the same numbers, and refusals by name."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from safemerge import ModelRef, Recipe
from safemerge.errors import RecipeError
from safemerge.inputs import open_inputs
from safemerge.io.header import TensorInfo, read_pieces
from safemerge.mergekit import from_mergekit, to_mergekit
from safemerge.mergekit.config import MergekitConfig
from safemerge.mergekit.parsing import parse_config, read_config
from safemerge.mergekit.reading import PROFILES, to_recipe
from safemerge.mergekit.reference import MERGEKIT_METHODS
from safemerge.mergekit.settings import evaluate, parse_setting, write_setting
from safemerge.mergekit.text import parse_yaml
from safemerge.mergekit.writing import to_yaml
from safemerge.methods import METHODS
from safemerge.names import groups
from search.cli.standalone import merge

GOLDENS = Path(__file__).parents[2] / "data" / "goldens"
TOLERANCE = {"karcher": 2e-5}  # it iterates
RECIPES = sorted(GOLDENS.glob("*/recipes/*.yml"))


# ---- the same numbers ------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_every_golden_file_gives_mergekits_numbers(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goldens = path.parents[1]
    monkeypatch.chdir(goldens)  # the files name ./models
    merge(path, tmp_path / "out")
    merged = load_file(tmp_path / "out" / "model.safetensors")
    expected = load_file(goldens / "expected" / f"{path.stem}.safetensors")
    assert merged.keys() == expected.keys()
    worst = max((merged[name] - expected[name]).abs().max().item() for name in expected)
    assert worst < TOLERANCE.get(method_of(path), 2e-6)
    # What was merged is kept, and merges again to the same bytes.
    merge(tmp_path / "out" / "recipe.json", tmp_path / "again")
    again = (tmp_path / "again" / "model.safetensors").read_bytes()
    assert again == (tmp_path / "out" / "model.safetensors").read_bytes()


def method_of(path: Path) -> str:
    return read_config(path).method


def written(folder: Path, text: str) -> Path:
    path = folder / "merge.yml"
    path.write_text(text)
    return path


def read(folder: Path, text: str) -> Recipe:
    return from_mergekit(written(folder, text))


PLAIN = """
merge_method: task_arithmetic
base_model: base
models:
- model: a
  parameters: {weight: 0.5}
- model: b
  parameters: {weight: 0.25}
"""


def test_the_model_that_stands_in_for_a_base_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDENS / "deep")
    recipe = from_mergekit("recipes/linear_sum.yml")
    assert recipe.base.path == recipe.sources[0].path
    inputs = open_inputs(recipe)
    name = "model.norm.weight"
    assert inputs.stored_bytes(name) == 2 * inputs.base.tensors[name].nbytes
    opened: list[TensorInfo] = []
    monkeypatch.setattr(
        "safemerge.io.reader.read_pieces",
        lambda info, entries: opened.append(info) or read_pieces(info, entries),
    )
    assert not any(deltas[0].any() for _, _, deltas in inputs.pieces(name, 8))
    assert [info.file.parent for info in opened] == [
        *(checkpoint.folder for checkpoint in (inputs.base, inputs.sources[1].stored))
    ]
    assert not inputs.load(name)[1][0].any()


def test_paths_follow_the_file_where_they_exist_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    recipe = read(tmp_path, PLAIN)
    assert [ref.path for ref in recipe.sources] == [str(tmp_path / "a"), "b"]
    assert recipe.weights == {"default": {"a": 0.5, "b": 0.25}}


def test_models_of_one_name_get_different_short_names(tmp_path: Path) -> None:
    text = PLAIN.replace("- model: a", "- model: x/base@main").replace(
        "- model: b", "- model: y/base"
    )
    recipe = read(tmp_path, text)
    assert [ref.name for ref in (*recipe.sources, recipe.base)] == ["base", "base-2", "base-3"]


def test_what_mergekit_does_not_use_either_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = "models:\n- model: base\n  parameters: {weight: 1}"
    text = PLAIN.replace("models:", base).replace("weight: 0.5", "weight: 0.5, density: 0.3")
    assert read(tmp_path, text) == read(tmp_path, PLAIN)
    assert [record.getMessage() for record in caplog.records] == [
        "density with merge_method 'task_arithmetic' has no effect, in mergekit neither",
        "weight of the base_model has no effect, in mergekit neither",
    ]


def test_adapters_without_a_base_model_bring_their_own(tmp_path: Path) -> None:
    """Rewarded soup of LoRA adapters."""
    text = "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: m+x}, {model: ./m+y}]"
    recipe = read(tmp_path, text)
    assert recipe.base.path == "m"
    assert [source.path for source in recipe.sources] == ["x", "y"]
    again = to_yaml(recipe, {"w": torch.float32}, {"x", "y"})
    assert read(tmp_path, again).sources == recipe.sources


def test_what_is_written_is_what_mergekit_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """`written.yml` is among the files that mergekit merged."""
    goldens = GOLDENS / "deep"
    monkeypatch.chdir(goldens)
    recipe = from_mergekit("recipes/filters.yml")
    written = to_mergekit(recipe, open_inputs(recipe))
    assert written == Path("recipes/written.yml").read_text()


# ---- from recipe to YAML and back ------------------------------------------------------------

NAMES = [
    "lm_head.weight",
    "model.embed_tokens.weight",
    "model.norm.weight",
    *(
        f"model.layers.{layer}.{module}.weight"
        for layer in range(12)
        for module in ("self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj", "input_layernorm")
    ),
]
EXPRESSIBLE = sorted(
    name
    for name, facts in MERGEKIT_METHODS.items()
    if not METHODS[name].seeded and facts.merges != "two"
)
paths = st.lists(
    st.text(min_size=1, max_size=9).filter(lambda path: "+" not in path),
    min_size=4,
    max_size=4,
    unique=True,
)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Recipes over `NAMES` that mergekit can express."""
    method = METHODS[draw(st.sampled_from(EXPRESSIBLE))]
    names, places = ["x", "y", "z"], draw(st.sampled_from(PROFILES))
    known = sorted({*groups(NAMES, places).values()})
    base, *sources = draw(paths)
    params = {}
    if "lambda" in MERGEKIT_METHODS[method.name].shared:
        params["scale"] = draw(st.floats(0, 10))
    if "normalize" in method.params.model_fields:
        params["normalize"] = draw(st.booleans())
    if "rescale" in MERGEKIT_METHODS[method.name].shared:
        params["rescale"] = draw(st.sampled_from(["none", "l1"]))

    def numbers(low: float, high: float) -> dict[str, dict[str, float]]:
        number = st.one_of(st.just(high), st.floats(low, high))
        by_source = st.dictionaries(st.sampled_from(names), number)
        by_group = draw(st.dictionaries(st.sampled_from(known), by_source))
        return {**by_group, "default": draw(by_source)}

    weighted = "weight" in MERGEKIT_METHODS[method.name].per_model
    weights = numbers(-2.0, 2.0) if weighted else {"default": dict.fromkeys(names, 1.0)}
    spans = [
        s for s in method.per_source.items() if s[0] in MERGEKIT_METHODS[method.name].per_model
    ]
    return Recipe(
        base=ModelRef(name="base", path=base),
        sources=tuple(ModelRef(name=n, path=p) for n, p in zip(names, sources, strict=True)),
        method=method.name,
        params=params,
        places=places,
        weights=weights,
        per_source={number: numbers(span.low, span.high) for number, span in spans}
        or {number: {"default": dict.fromkeys(names, 0.25)} for number in method.per_source},
        dtype=draw(st.sampled_from([None, "bfloat16", "float32"])),
        tokenizer=draw(st.sampled_from([None, "base"])) if method.zero_is_base else None,
    )


def effect(recipe: Recipe) -> dict[str, object]:
    """What a recipe does to every tensor, under whatever names and place groups."""
    method = METHODS[recipe.method]
    return {
        "method": recipe.method,
        "params": method.parse(recipe.params),
        "base": recipe.base.path if method.zero_is_base else None,
        "sources": [source.path for source in recipe.sources],
        "dtype": recipe.dtype or "float32",
        "tokenizer": recipe.tokenizer,
        "numbers": {
            name: (recipe.weights_at(group), method.selection(recipe, group).per_source)
            for name, group in groups(NAMES, recipe.places).items()
        },
    }


@given(recipe=recipes())
def test_a_recipe_survives_the_way_through_yaml(recipe: Recipe) -> None:
    text = to_yaml(recipe, dict.fromkeys(NAMES, torch.float32))
    again = to_recipe(parse_config(text.encode(), "round trip"), NAMES)
    assert effect(again) == effect(recipe)


@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_the_tokenizer_of_a_base_that_takes_no_part_is_not_expressed(method: str) -> None:
    recipe = Recipe(
        base=ModelRef(name="base", path="0"),
        sources=(ModelRef(name="x", path="0"), ModelRef(name="y", path="1")),
        method=method,
        weights={"default": {"x": 0.5, "y": 0.5}},
        tokenizer="base",
    )
    text = to_yaml(recipe, {"w": torch.float32})
    assert to_recipe(parse_config(text.encode(), "round trip"), ["w"]).tokenizer == "base"
    other = recipe.model_copy(update={"base": ModelRef(name="base", path="2")})
    with pytest.raises(RecipeError, match="has the tokenizer of 2, which mergekit's"):
        to_yaml(other, {"w": torch.float32})


def test_slerp_goes_from_the_first_source_to_the_second() -> None:
    weights = {"default": {"x": 1.5, "y": 0.5}, "layer.3": {"x": 0.0, "y": 2.0}}
    recipe = Recipe(
        base=ModelRef(name="base", path="0"),
        sources=(ModelRef(name="x", path="0"), ModelRef(name="y", path="1")),
        method="slerp",
        places="layers",
        weights=weights,
    )
    text = to_yaml(recipe, dict.fromkeys(NAMES, torch.float32))
    again = to_recipe(parse_config(text.encode(), "round trip"), NAMES)
    assert [source.path for source in again.sources] == ["0", "1"]
    assert again.weights_at("layer.2") == [0.75, 0.25]
    assert again.weights_at("layer.3") == [0.0, 1.0]


def test_a_number_that_mergekit_has_once_may_not_differ_between_sources() -> None:
    recipe = Recipe(
        base=ModelRef(name="base", path="0"),
        sources=(ModelRef(name="x", path="1"), ModelRef(name="y", path="2")),
        method="sce",
        weights={"default": {"x": 1.0, "y": 1.0}},
        per_source={"density": {"default": {"x": 0.2, "y": 0.3}}},
    )
    with pytest.raises(RecipeError, match=r"has one select_topk for all sources.*'all'"):
        to_yaml(recipe, dict.fromkeys(NAMES, torch.float32))


def test_a_name_inside_another_name_keeps_its_own_number() -> None:
    names = ["h.0.w", "x.h.0.w", "x.h.0.v", "h.0.wide"]
    for i, name in enumerate(names):
        setting = parse_setting(write_setting({n: float(n == name) for n in names}), "")
        assert [evaluate(setting, n, 0.0) for n in names] == [float(i == j) for j in range(4)]


@pytest.mark.parametrize(
    ("method", "models", "message"),
    [
        ("resm", "base a b", "mergekit has no merge method 'resm'"),
        ("task_arithmetic", "base base b", "takes the model base once"),
        ("task_arithmetic", "base a a", "takes the model a once"),
        ("task_arithmetic", "base a b", "stores its tensors in bfloat16 and float32"),
    ],
)
def test_what_mergekit_cannot_express_is_said(method: str, models: str, message: str) -> None:
    base, *sources = models.split()
    recipe = Recipe(
        base=ModelRef(name="base", path=base),
        sources=tuple(ModelRef(name=f"s{i}", path=path) for i, path in enumerate(sources)),
        method=method,
        weights={"default": {"s0": 0.5}},
    )
    with pytest.raises(RecipeError, match=message):
        to_yaml(recipe, {"w": torch.float32, "v": torch.bfloat16})


# ---- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("merge_method", "merge_metod", "unknown key 'merge_metod'; did you mean merge_method"),
        ("task_arithmetic", "task_aritmetic", "did you mean task_arithmetic"),
        ("task_arithmetic", "passthrough", "'passthrough' of mergekit is not built; known: "),
        ("task_arithmetic", "resm", "mergekit has no merge method 'resm'; write a recipe"),
        ("task_arithmetic", "[x]", r"merge_method is \['x'\]"),
        ("base_model: base", "", "starts from a base; name it as base_model"),
        ("weight: 0.5", "wieght: 0.5", "unknown parameter 'wieght'; did you mean weight"),
        ("{weight: 0.5}", "{}", "weight of model 'a' is not given; it has no default"),
        ("weight: 0.5", "weight: .nan", "weight is nan, not finite"),
        ("weight: 0.5", "weight: true", "weight of model 'a' is True, not a number"),
        ("weight: 0.5", "weight: []", "weight is an empty list"),
        ("weight: 0.5", "weight: [[1]]", r"weight is \[1\]; a setting is"),
        ("weight: 0.5", "weight: {filter: mlp}", "has no value; a case is"),
        ("weight: 0.5", "weight: [{fliter: mlp, value: 1}]", r"weight\[0\] has the key 'fliter'"),
        ("weight: 0.5", "lambda: 0.5, weight: 1", "'lambda' of model 'a' is a parameter of the wh"),
        ("- model: b", "- model: a", "'a' is listed twice"),
        ("- model: b", "- model: b+lora", "a LoRA adapter is given for 'b', and deltas are taken"),
        ("- model: b", "- model: b+c+d", "stands between a model and one LoRA adapter"),
        ("base_model: base", "base_model: a+b", "base_model is 'a\\+b', a model with a LoRA"),
        ("- model: b", "- model: 7", "model is 7; give a folder"),
        ("models:", "chat_template: chatml\nmodels:", "'chat_template', which cannot be expressed"),
        ("models:", "tokenizer_source: b\nmodels:", "tokenizer_source is 'b'; the output has the"),
        ("models:", "dtype: float8\nmodels:", "dtype is 'float8'; known: float32, bfloat16"),
        ("models:", "slices: []\nmodels:", "either models or slices"),
        ("models:", "parameters: {normalize: 3}\nmodels:", "normalize is 3, not true or false"),
        ("models:", "parameters: {lambda: x}\nmodels:", "lambda is 'x', not a number"),
        ("models:", "parameters: {lambda: 99}\nmodels:", "scale: .*less than or equal to 10"),
        # The text itself.
        ("models:", "models: [", "line [0-9]+: "),
        ("models:", "base_model: b\nmodels:", "line 4: the key 'base_model' is given twice"),
        ("weight: 0.5", "weight: &w 0.5", "line 6: anchors"),
        ("weight: 0.25", "weight: *w", "line 8: anchors"),
        ("task_arithmetic", "!!python/name:os.system x", "could not determine a constructor"),
        ("weight: 0.5", f"weight: {'[' * 50}1{']' * 50}", "nested more than 20 levels"),
        ("weight: 0.5", f"weight: {'9' * 5000}", "is not a YAML text"),
        ("merge_method", "\x07", "is not a YAML text"),
        ("merge_method", "7", "a key must be a word"),
        ("models:", "---\nmodels:", "expected a single document"),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_name(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in PLAIN
    with pytest.raises(RecipeError, match=message) as error:
        read(tmp_path, PLAIN.replace(old, new, 1))
    assert str(tmp_path / "merge.yml") in str(error.value)
    with pytest.raises(RecipeError):
        merge(tmp_path / "merge.yml", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "models:",
            "parameters: {lambda: [0, 1.1]}\nmodels:",
            "lambda is 0.0 for .* and 0.1 for .*",
        ),
        (
            "0.5",
            "[{filter: q_proj.w, value: 1}]",
            "weight of model 'a' is not given for the tensor",
        ),
        (
            "0.5",
            "[{filter: 0.w, value: 1}, {value: 0}]",
            r"weight is \[1.0, .* a recipe has one for",
        ),
    ],
)
def test_what_differs_where_a_recipe_has_one_number_is_refused(
    old: str, new: str, message: str
) -> None:
    names = [*NAMES, "model.layers.0.mlp.experts.0.w", "model.layers.0.mlp.experts.1.w"]
    with pytest.raises(RecipeError, match=message):
        to_recipe(parse_config(PLAIN.replace(old, new, 1).encode(), "file"), names)


def sliced(*slices: dict[str, tuple[int, int]]) -> MergekitConfig:
    """A linear merge in slices, each `{model: layers}`."""
    parts = [
        {"sources": [{"model": m, "layer_range": list(r)} for m, r in part.items()]}
        for part in slices
    ]
    record = {"merge_method": "linear", "parameters": {"weight": 1}, "slices": parts}
    return parse_config(json.dumps(record).encode(), "file")


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        ([{"a": (0, 6)}, {"a": (6, 11)}], "the slices end at layer 11, and the base has 12"),
        ([{"a": (0, 6)}, {"a": (7, 12)}], r"slices\[1\] begins at layer 7, expected 6"),
        ([{"a": (6, 12)}, {"a": (0, 6)}], r"slices\[0\] begins at layer 6, expected 0"),
        ([{"a": (0, 0)}], r"layer_range is \[0, 0\]; give"),
        ([{"a": (0, 12), "b": (0, 11)}], "only the same layers can be merged"),
        ([{"a": (0, 6)}, {"b": (6, 12)}], r"slices\[1\] does not have the models of slices\[0\]"),
    ],
)
def test_layers_that_are_left_out_or_moved_are_refused(
    slices: list[dict[str, tuple[int, int]]], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        to_recipe(sliced(*slices), NAMES)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("base", [None, "m0", "other"])
@pytest.mark.parametrize("method", MERGEKIT_METHODS)
def test_any_number_of_models_is_a_recipe_or_a_refusal(
    method: str, base: str | None, count: int
) -> None:
    parameters = {"t": 0.5} if "t" in MERGEKIT_METHODS[method].shared else {"weight": 1.0}
    models = [{"model": f"m{i}"} for i in range(count)]
    record = {"merge_method": method, "models": models, "parameters": parameters}
    file = json.dumps(record | ({} if base is None else {"base_model": base})).encode()
    try:
        recipe = to_recipe(parse_config(file, "file"), NAMES)
    except RecipeError:
        return
    METHODS[recipe.method].check(recipe)


def test_slerp_of_other_than_two_models_is_refused_with_their_names() -> None:
    record = {"merge_method": "slerp", "base_model": "a", "parameters": {"t": 0.5}}
    file = json.dumps(record | {"models": [{"model": m} for m in "abc"]}).encode()
    with pytest.raises(RecipeError, match=r"merges exactly 2 sources, .* names 3 \(a, b, c\)"):
        to_recipe(parse_config(file, "file"), NAMES)


def test_a_gradient_over_two_stacks_is_refused() -> None:
    text = PLAIN.replace("0.5", "[0.5, 0.7]")
    names = [*NAMES, "vision.layers.0.mlp.fc1.weight"]
    with pytest.raises(
        RecipeError, match=r"several stacks of layers \(model.layers, vision.layers"
    ):
        to_recipe(parse_config(text.encode(), "file"), names)


def test_a_file_that_is_no_merge_file_is_refused(tmp_path: Path) -> None:
    for text, message in [("", "holds empty"), ("- a", "holds a list"), ("7", "holds 7")]:
        with pytest.raises(RecipeError, match=f"is not a merge file: it {message}"):
            read(tmp_path, text)
    with pytest.raises(RecipeError, match="a merge file has at most"):
        read(tmp_path, "#" * 1_000_001)
    (tmp_path / "latin.yml").write_bytes(b"merge_method: \xe9")
    with pytest.raises(RecipeError, match=r"latin\.yml is not a YAML text: 'utf-8' codec"):
        from_mergekit(tmp_path / "latin.yml")
    with pytest.raises(RecipeError, match=r"cannot read .*No such file"):
        from_mergekit(tmp_path / "none.yml")


KNOWN = """merge_method base_model models model slices sources layer_range parameters weight density
t normalize lambda filter value dtype float32 tokenizer_source base a b linear passthrough * + path
revision lora name"""
WORDS = st.sampled_from(KNOWN.split())
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
SETTINGS = st.dictionaries(WORDS, ANYTHING, max_size=2)
MODEL = st.fixed_dictionaries(
    {"model": st.sampled_from("ab") | ANYTHING},
    optional={"layer_range": st.just([0, 12]) | ANYTHING, "parameters": SETTINGS | ANYTHING},
)
FILE = st.fixed_dictionaries(
    {"merge_method": st.sampled_from(sorted(MERGEKIT_METHODS)) | ANYTHING},
    optional={
        "base_model": st.just("base") | ANYTHING,
        "models": st.lists(MODEL, max_size=3) | ANYTHING,
        "slices": st.lists(st.fixed_dictionaries({"sources": st.lists(MODEL)})) | ANYTHING,
        "parameters": SETTINGS | ANYTHING,
        "dtype": WORDS,
    },
)


@given(record=FILE | ANYTHING)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_file_is_a_recipe_or_a_refusal(record: object) -> None:
    with suppress(RecipeError):
        to_recipe(parse_config(json.dumps(record).encode(), "file"), NAMES)


@given(data=st.binary() | st.text("-:[]{}&*!|>'\"\n\t #ab?,%@`1.e", max_size=40).map(str.encode))
def test_any_bytes_are_a_value_or_a_refusal(data: bytes) -> None:
    with suppress(RecipeError):
        parse_yaml(data, "file")
