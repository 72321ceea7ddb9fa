"""mergekit's YAML: the same numbers, and refusals by name."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from safemerge import ModelRef, Recipe
from safemerge.errors import CheckpointError, RecipeError
from safemerge.inputs import open_inputs
from safemerge.io import open_checkpoint
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
from safemerge.recipe import TokenRow, Vocabulary
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


def test_what_mergekit_does_not_use_either_is_named_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = "int_space: 3\nmodels:\n- model: base\n  parameters: {weight: 1}"
    text = PLAIN.replace("models:", base).replace("weight: 0.5", "weight: 0.5, density: 0.3")
    recipe = read(tmp_path, text.replace("weight: 0.25", "weight: 0.25, lambda: 2, smooth: true"))
    assert recipe.model_copy(update={"ignored": {}}) == read(tmp_path, PLAIN)
    assert [record.getMessage() for record in caplog.records] == [
        "density with merge_method 'task_arithmetic' has no effect, in mergekit neither",
        "lambda of model 'b', a parameter of the whole merge, has no effect, in mergekit neither",
        "smooth with merge_method 'task_arithmetic' has no effect, in mergekit neither",
        "weight of the base_model has no effect, in mergekit neither",
        "int_space has no effect, in mergekit neither",
    ]
    assert recipe.ignored == {
        "int_space": 3,
        "a.parameters.density": 0.3,
        "b.parameters.lambda": 2,
        "b.parameters.smooth": True,
    }
    assert Recipe.from_json(recipe.canonical_json()).ignored == recipe.ignored
    contents = dict.fromkeys(("base", "a", "b"), "")
    assert recipe.hash(contents) == read(tmp_path, PLAIN).hash(contents)


def test_a_module_is_a_stack_with_parameters_of_its_own(tmp_path: Path) -> None:
    models = PLAIN[PLAIN.index("models:") :].replace("\n", "\n    ")
    rest = PLAIN[: PLAIN.index("models:")] + "parameters: {lambda: 0.5}\n"
    module = f"{rest}modules:\n  default:\n    parameters: {{lambda: -0.5}}\n    {models}"
    expected = read(tmp_path, PLAIN).model_copy(update={"params": {"scale": -0.5}})
    assert read(tmp_path, module) == expected


def test_weights_of_nuslerp_that_cancel_meet_in_the_middle(tmp_path: Path) -> None:
    text = PLAIN.replace("task_arithmetic", "nuslerp").replace("0.25", "-0.5")
    recipe = read(tmp_path, text)
    assert recipe.weights == {"default": {"a": 0.5, "b": 0.5}}
    alone = read(tmp_path, text.replace("base_model: base", ""))
    assert (recipe.params, alone.params) == ({}, {"from_base": False})
    rows = text + "parameters: {nuslerp_flatten: false, nuslerp_row_wise: true}"
    assert (read(tmp_path, rows).method, read(tmp_path, rows).params) == (
        "nuslerp_rows",
        {"columns": True},
    )


@pytest.mark.parametrize("method", ["nearswap", "arcee_fusion"])
def test_more_models_than_mergekit_takes_are_refused_with_their_names(
    tmp_path: Path, method: str
) -> None:
    with pytest.raises(RecipeError, match=r"merges 1 with the base_model, .* lists 2 \(a, b\)"):
        read(tmp_path, PLAIN.replace("task_arithmetic", method))


def test_several_documents_are_merged_in_the_order_of_their_use(tmp_path: Path) -> None:
    goldens, out = GOLDENS / "fp32" / "models", tmp_path / "out"
    first = {"name": "first", "merge_method": "linear", "parameters": {"weight": 1}}
    first["models"] = [{"model": str(goldens / "a")}, {"model": str(goldens / "b")}]
    last = {"merge_method": "task_arithmetic", "base_model": str(goldens / "base")}
    last["models"] = [{"model": "first", "parameters": {"weight": 0.5}}]
    file = tmp_path / "merge.yml"
    file.write_text(f"{json.dumps(last)}\n---\n{json.dumps(first)}\n---\n")
    merge(file, out)
    weights = [load_file(folder / "model.safetensors") for folder in (
        goldens / "base", goldens / "a", goldens / "b", out)]  # fmt: skip
    for name in weights[3]:
        base, a, b, merged = (tensors[name] for tensors in weights)
        expected = base + 0.5 * ((a + b) / 2 - base)
        torch.testing.assert_close(merged, expected, atol=1e-6, rtol=0)
    assert (tmp_path / "out.parts" / "first" / "recipe.json").exists()


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ("name: x", "name: x", "two documents have the name 'x'"),
        ("", "", "two documents have no name"),
        ("name: ../x", "", "'../x' is no name of a folder"),
        ("name: a", "name: base", "use each other in a circle: "),
    ],
)
def test_documents_that_cannot_be_put_in_order_are_refused(
    tmp_path: Path, one: str, other: str, message: str
) -> None:
    two = PLAIN.replace("base_model: base", "base_model: c").replace("model: b", "model: a")
    two = two.replace("model: a", "model: d", 1)
    file = written(tmp_path, f"{one}\n{PLAIN}\n---\n{other}\n{two}")
    with pytest.raises(RecipeError, match=message):
        merge(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(RecipeError, match="holds 2 documents, which are merged one after another"):
        from_mergekit(file)


def test_a_base_and_models_with_adapters_are_those_that_peft_merges(tmp_path: Path) -> None:
    """`base_model: X+LoRA`, and an adapter of a model that is not the base."""
    model, lora = GOLDENS / "fp32" / "models" / "base", GOLDENS / "lora" / "llama"
    text = PLAIN.replace("base_model: base", f"base_model: {model}+{lora}")
    text = text.replace("model: a", f"model: {model}+{GOLDENS / 'lora' / 'rslora'}")
    text = text.replace("model: b", f"model: {model}+{lora}").replace("0.25", "3")
    merge(written(tmp_path, text), tmp_path / "out")
    plain, merged = (load_file(f / "model.safetensors") for f in (model, tmp_path / "out"))
    base = plain | load_file(GOLDENS / "lora" / "llama.merged.safetensors")
    other = plain | load_file(GOLDENS / "lora" / "rslora.merged.safetensors")
    for name, tensor in base.items():
        expected = tensor + 0.5 * (other[name] - tensor)
        torch.testing.assert_close(merged[name], expected, atol=2e-6, rtol=0)
    recipe = Recipe.load(tmp_path / "out" / "recipe.json")
    contents = open_inputs(recipe).contents()
    # Its hash is that of model and adapter together, not of either.
    assert len({*contents.values(), open_checkpoint(model).content_hash()}) == len(contents) + 1
    again = to_mergekit(recipe, open_inputs(recipe))
    assert read(tmp_path, again).base == recipe.base


def test_an_adapter_that_is_a_model_is_refused(tmp_path: Path) -> None:
    model = GOLDENS / "fp32" / "models" / "base"
    text = PLAIN.replace("base_model: base", f"base_model: {model}+{model}")
    with pytest.raises(CheckpointError, match=r"the adapter of .*, is a whole model; give a LoRA"):
        merge(written(tmp_path, text), tmp_path / "out")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", "{{ b }}"),
        ("chatml", "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"),
        ("alpaca", "### Instruction:\nhi\n\n### Response:\n"),
        ("llama3", "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"),
        ("mistral", " [INST] hi [/INST]"),
        ("exaone", "[|system|][|endofturn|]\n[|user|]hi\n[|assistant|]"),
        ("{{ messages[0].content }}", "hi"),
    ],
)
def test_a_chat_template_is_auto_a_name_or_a_text(
    tmp_path: Path, choice: str, expected: str
) -> None:
    from transformers import AutoTokenizer

    models = {name: tmp_path / name for name in ("base", "a", "b")}
    for name, folder in models.items():
        shutil.copytree(GOLDENS / "fp32" / "models" / name, folder)
    for folder, own in zip(models.values(), ("{{ a }}", " {{ b }}", "{{ b }}\n"), strict=True):
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config["chat_template"] = [{"name": "default", "template": own}]
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (models["b"] / "chat_template.jinja").write_text("{{ b }}\n")
    merge(written(tmp_path, f"{PLAIN}chat_template: '{choice}'"), tmp_path / "out")
    if choice == "auto":
        assert (tmp_path / "out" / "chat_template.jinja").read_text() == expected
        return
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    turns = [{"role": "user", "content": "hi"}]
    said = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert expected in said


@pytest.mark.parametrize(
    ("choice", "message"),
    [("chatmll", "did you mean chatml"), ("{% if %}", "no Jinja template: line 1: ")],
)
def test_a_chat_template_that_is_none_is_refused(
    tmp_path: Path, choice: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(GOLDENS / "fp32" / "models")
    with pytest.raises(RecipeError, match=message):
        merge(written(tmp_path, f"{PLAIN}chat_template: '{choice}'"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


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
ROWS = {
    "<a>": TokenRow(model="x", force=True),
    "<b>": TokenRow(zero=True),
    "<c>": TokenRow(model="base", token_id=3),
    "<d>": TokenRow(model="x", token="c"),
    "<e>": TokenRow(),
}
VOCABULARIES = [
    None,
    Vocabulary(source="base"),
    Vocabulary(source="model", model="x", tokens=ROWS, pad_to_multiple_of=8),
]
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
    facts = MERGEKIT_METHODS[method.name]
    names, places = ["x", "y", "z"][: facts.most], draw(st.sampled_from(PROFILES))
    known = sorted({*groups(NAMES, places).values()})
    base, *sources = draw(paths)[: len(names) + 1]
    params = {}
    if "lambda" in MERGEKIT_METHODS[method.name].shared:
        params["scale"] = draw(st.floats(0, 10))
    for flag in sorted({"normalize", "from_base"} & method.params.model_fields.keys()):
        params[flag] = draw(st.booleans())
    if "rescale" in MERGEKIT_METHODS[method.name].shared:
        params["rescale"] = draw(st.sampled_from(["none", "l1"]))

    def numbers(low: float, high: float) -> dict[str, dict[str, float]]:
        number = st.one_of(st.just(high), st.floats(low, high))
        by_source = st.dictionaries(st.sampled_from(names), number)
        by_group = draw(st.dictionaries(st.sampled_from(known), by_source))
        return {**by_group, "default": draw(by_source)}

    weights = {"default": dict.fromkeys(names, 1.0)}
    if "weight" in facts.per_model:
        # Weights of NuSLERP are read as shares: of a sum of 1 they are those that were written.
        weights = numbers(-2.0, 2.0) if facts.most is None else {"default": {"x": 0.25, "y": 0.75}}
    spans = [s for s in method.per_source.items() if s[0] in facts.per_model]
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
        tokenizer=draw(st.sampled_from(VOCABULARIES)) if method.zero_is_base else None,
        chat_template=draw(st.sampled_from([None, "auto", "chatml"])),
    )


def with_paths(recipe: Recipe) -> object:
    """The vocabulary, with paths in place of names."""
    if not isinstance(recipe.tokenizer, Vocabulary):
        return recipe.tokenizer
    paths = {ref.name: ref.path for ref in (recipe.base, *recipe.sources)}
    record = recipe.tokenizer.model_dump()
    for part in (record, *record["tokens"].values()):
        part["model"] = paths.get(part["model"])
    return record


def from_base(recipe: Recipe) -> bool:
    method = METHODS[recipe.method]
    return bool(recipe.params.get("from_base", not method.ignores_base))


def effect(recipe: Recipe) -> dict[str, object]:
    """What a recipe does to every tensor, under whatever names and place groups."""
    method = METHODS[recipe.method]
    return {
        "method": recipe.method,
        "params": method.parse(recipe.params),
        "base": recipe.base.path if from_base(recipe) else None,
        "sources": [source.path for source in recipe.sources],
        "dtype": recipe.dtype or "float32",
        "chat_template": recipe.chat_template,
        "tokenizer": with_paths(recipe),
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
    assert to_recipe(parse_config(text.encode(), "round trip"), ["w"]).tokenizer == Vocabulary(
        source="base"
    )
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
        ("task_arithmetic", "passthrough", "models lists a, b, and passthrough takes one"),
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
        ("- model: b", "- model: a", "'a' is listed twice"),
        ("- model: b", "- model: b+c+d", "stands between a model and one LoRA adapter"),
        ("- model: b", "- model: 7", "model is 7; give a folder"),
        ("models:", "chat_template: [x]\nmodels:", "chat_template is .*; give a text"),
        ("models:", "modules: {vision: {}}\nmodels:", "give either models or slices"),
        ("models:", "parameters: {lamda: 2}\nmodels:", "parameter 'lamda'; did you mean lambda"),
        ("models:", "tokenizer_source: c\nmodels:", "tokenizer names 'c', which is no model of"),
        ("models:", "tokenizer: {source: c}\nmodels:", "tokenizer names 'c', which is no model of"),
        ("models:", "tokenizer: {tokens: {x: {force: true}}}\nmodels:", "has force and no source"),
        ("models:", "tokenizer: {pad_to_multiple_of: 0}\nmodels:", "is 0; give a number from 1 on"),
        (
            "models:",
            "tokenizer: {tokens: {x: {source: {kind: model_token, model: a}}}}\nmodels:",
            "has to have either token or token_id",
        ),
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
        ("models:", "---\nmodels:", "document 1: give either models or slices"),
        ("weight: 0.25}", "weight: 0.25}\n---\nmerge_method: x", "document 2: give either"),
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
        ([{"a": (0, 0)}], r"layer_range is \[0, 0\]; give"),
        ([{"a": (0, 12), "b": (0, 11)}], r"slices\[0\] takes 11 and 12 layers of its models"),
    ],
)
def test_slices_that_mean_nothing_are_refused(
    slices: list[dict[str, tuple[int, int]]], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        to_recipe(sliced(*slices), NAMES)


@pytest.mark.parametrize(
    "slices",
    [
        [{"a": (0, 6)}, {"a": (6, 11)}],  # fewer layers
        [{"a": (0, 6)}, {"a": (7, 12)}],
        [{"a": (6, 12)}, {"a": (0, 6)}],  # in another order
        [{"a": (0, 9)}, {"a": (3, 12)}],  # some twice
        [{"a": (0, 6), "b": (6, 12)}, {"a": (6, 12), "b": (0, 6)}],
        [{"a": (0, 6)}, {"b": (6, 12)}],
    ],
)
def test_slices_of_other_layers_are_a_stack(slices: list[dict[str, tuple[int, int]]]) -> None:
    recipe = to_recipe(sliced(*slices), NAMES)
    names = {ref.path: ref.name for ref in recipe.sources}
    assert [
        {path: part[names[path]] for path in names if names[path] in part} for part in recipe.stack
    ] == slices
    depth = 0
    for part in slices:
        first, end = next(iter(part.values()))
        weights = recipe.weights_at(group_of_layer(recipe, depth))
        assert weights == [float(ref.path in part) for ref in recipe.sources]
        depth += end - first
    assert to_recipe(sliced({"a": (0, 6)}, {"a": (6, 12)}), NAMES).stack == ()


def group_of_layer(recipe: Recipe, layer: int) -> str:
    name = f"model.layers.{layer}.mlp.up_proj.weight"
    return groups([*NAMES, name], recipe.places)[name]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("karcher", r"slices\[0\] does not have 'b'; karcher needs every model in every slice"),
        ("task_arithmetic", r"slices\[1\] does not say which layers of the base_model 'a'"),
    ],
)
def test_a_stack_without_what_its_method_needs_is_refused(method: str, message: str) -> None:
    config = sliced({"a": (0, 6)}, {"b": (6, 12)})
    base = None if method == "karcher" else config.models[0]
    with pytest.raises(RecipeError, match=message):
        to_recipe(replace(config, method=method, base=base), NAMES)


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
