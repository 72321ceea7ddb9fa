"""Parameter names to places and place groups."""

import pytest

from safemerge.errors import RecipeError
from safemerge.names import Place, depth_order, groups, is_constant, place_of, role_of

LLAMA = [
    "model.embed_tokens.weight",
    *(
        f"model.layers.{layer}.{module}.weight"
        for layer in range(4)
        for module in (
            "input_layernorm",
            "self_attn.q_proj",
            "mlp.gate_proj",
            "post_attention_layernorm",
        )
    ),
    "model.norm.weight",
    "lm_head.weight",
]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("model.layers.3.self_attn.q_proj.weight", Place(3, "attention", "q_proj")),
        ("model.layers.0.mlp.down_proj.weight", Place(0, "mlp", "down_proj")),
        (
            "model.layers.1.post_attention_layernorm.weight",
            Place(1, "norm", "post_attention_layernorm"),
        ),
        ("transformer.h.11.attn.c_attn.bias", Place(11, "attention", "c_attn")),
        ("transformer.h.2.ln_1.weight", Place(2, "norm", "ln_1")),
        ("model.layers.7.block_sparse_moe.experts.3.w1.weight", Place(7, "mlp", "w1")),
        ("model.layers.7.mlp.experts.gate_up_proj", Place(7, "mlp", "gate_up_proj")),
        ("model.layers.7.mlp.experts.down_proj_bias", Place(7, "mlp", "down_proj")),
        ("model.layers.7.self_attn.sinks", Place(7, "attention", "sinks")),
        ("model.embed_tokens.weight", Place(None, "embedding", "embed_tokens")),
        ("model.norm.weight", Place(None, "norm", "norm")),
        ("lm_head.weight", Place(None, "head", "lm_head")),
    ],
)
def test_place_is_read_from_the_name(name: str, place: Place) -> None:
    assert place_of(name) == place


def test_embeddings_heads_and_vectors_are_not_matrices() -> None:
    assert role_of("model.embed_tokens.weight", (96, 32)) == "embedding"
    assert role_of("lm_head.weight", (96, 32)) == "embedding"
    assert role_of("model.norm.weight", (32,)) == "vector"
    assert role_of("model.layers.0.mlp.experts.down_proj_bias", (4, 32)) == "vector"
    assert role_of("backbone.layers.0.mixer.A_log", (64, 16)) == "vector"
    assert role_of("head.weight", (96, 32)) == "embedding"
    assert role_of("model.layers.0.mlp.up_proj.weight", (64, 32)) == "matrix"


@pytest.mark.parametrize(
    ("name", "constant"),
    [
        ("h.0.attn.bias", True),
        ("gpt_neox.layers.0.attention.masked_bias", True),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", True),
        ("transformer.h.0.attn.c_attn.bias", False),
        ("model.layers.0.self_attn.q_proj.bias", False),
    ],
)
def test_masks_and_rotary_frequencies_are_constants(name: str, constant: bool) -> None:
    assert is_constant(name) == constant


def test_profiles_group_as_documented() -> None:
    assert set(groups(LLAMA, "global").values()) == {"all"}
    halves = groups(LLAMA, "blocks(2)")
    assert halves["model.layers.1.mlp.gate_proj.weight"] == "block.0"
    assert halves["model.layers.2.mlp.gate_proj.weight"] == "block.1"
    assert halves["model.embed_tokens.weight"] == "outside"
    split = groups(LLAMA, "layers+kind")
    assert split["model.layers.3.self_attn.q_proj.weight"] == "layer.3.attention"
    assert split["model.layers.3.input_layernorm.weight"] == "layer.3.norm"
    modules = groups(LLAMA, "modules")
    assert len(set(modules.values())) == len(LLAMA)
    assert set(groups(LLAMA, "global+kind").values()) == {
        *("all.attention", "all.mlp", "all.norm", "all.embedding", "all.head")
    }
    coarse = groups(LLAMA, "blocks(2)+module")
    assert coarse["model.layers.3.self_attn.q_proj.weight"] == "block.1.q_proj"
    assert coarse["lm_head.weight"] == "lm_head"


@pytest.mark.parametrize(
    "profile", ["", "layer", "blocks", "blocks(0)", "modules+kind", "global+", "layers+module"]
)
def test_an_unknown_profile_is_refused_with_the_known_ones(profile: str) -> None:
    with pytest.raises(RecipeError, match=r"unknown place profile .*known: global, blocks\(k\)"):
        groups(LLAMA, profile)


def test_depth_order_counts_layers_as_numbers() -> None:
    shuffled = ["layer.10.q_proj", "norm", "layer.2.q_proj", "layer.2.k_proj"]
    assert sorted(shuffled, key=depth_order) == [
        "norm",
        "layer.2.k_proj",
        "layer.2.q_proj",
        "layer.10.q_proj",
    ]
