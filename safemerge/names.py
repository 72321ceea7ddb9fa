"""Where a parameter sits in a decoder, read from its name: layer, kind, module, and place group.

A profile says which parameters share one merge weight:

| profile    | groups                                                      |
| ---------- | ----------------------------------------------------------- |
| global     | `all`                                                       |
| blocks(k)  | `block.0` ... `block.k-1` over depth, and `outside`         |
| layers     | `layer.0` ... and `outside`                                 |
| modules    | `layer.0.q_proj` ..., and `embed_tokens`, `norm`, `lm_head` |

`+kind` and `+module` split groups further: `layer.3.attention`, `block.0.q_proj`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from safemerge.errors import RecipeError

Kind = Literal["attention", "mlp", "norm", "embedding", "head", "other"]
Role = Literal["matrix", "embedding", "vector"]

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.(.+)$")
_PROFILE = re.compile(
    r"^(?:(?:(?P<all>global)|blocks\((?P<k>\d+)\))(?P<split>\+kind|\+module)?"
    r"|layers(?P<kind>\+kind)?|(?P<modules>modules))$"
)
_CONSTANT = re.compile(r"\.(attn|attention)\.(masked_)?bias$|\.rotary_emb\.inv_freq$")
_OTHER_ROWS = re.compile(r"wpe|position|token_type")
# Two-dimensional all the same: biases of fused experts, and Mamba's (channels, states) decay.
_NO_MATRIX = ("bias", "A_log")
_LEAVES = frozenset({"weight", "bias"})
# Parameters that transformers multiplies as x @ W: Conv1D, and some experts. By model_type, because
# the same names are ordinary Linear layers elsewhere (GPT-BigCode).
_CONV1D = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")
_EXPERTS = re.compile(r"\.experts\.(gate_up_proj|down_proj)$")
_INPUT_FIRST = {
    "gpt2": _CONV1D,
    "openai-gpt": _CONV1D,
    "gpt_oss": _EXPERTS,
    "llama4": _EXPERTS,
    "llama4_text": _EXPERTS,
}
# Order matters: "post_attention_layernorm" is a norm, not attention.
_KINDS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("norm", re.compile(r"norm|(^|\.)ln_?\w*(\.|$)")),
    ("attention", re.compile(r"attn|attention")),
    ("mlp", re.compile(r"mlp|feed_forward|ffn|moe|experts|fc[12]")),
    ("embedding", re.compile(r"embed|wte|wpe")),
    ("head", re.compile(r"(^|\.)(lm_)?head\.|output\.weight$")),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one parameter sits."""

    layer: int | None  # index in the decoder stack, or None outside it
    kind: Kind  # what sort of module holds it
    module: str  # the name that tells it from its neighbours, such as `q_proj`


def place_of(name: str) -> Place:
    """Read a parameter name.

    >>> place_of("model.layers.3.self_attn.q_proj.weight")
    Place(layer=3, kind='attention', module='q_proj')
    """
    match = _LAYER.search(name)
    inside = match.group(2) if match else name
    kind: Kind = next((kind for kind, pattern in _KINDS if pattern.search(inside)), "other")
    *path, leaf = inside.split(".")
    # Fused experts are parameters of their own: "experts.down_proj" and "experts.down_proj_bias".
    module = path[-1] if path and leaf in _LEAVES else leaf.removesuffix("_bias")
    return Place(int(match.group(1)) if match else None, kind, module)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a tensor stores its matrices (out, in); the default is one, as it is."""

    stacked: bool = False  # several along the first axis, such as experts
    transposed: bool = False  # matrices are stored as (in, out)


def layout_of(name: str, shape: tuple[int, ...], model_type: str) -> Layout:
    """How a tensor of an architecture (`model_type` of its config.json) stores its matrices."""
    stacked = _is_stack(name, shape)
    pattern = _INPUT_FIRST.get(model_type)
    matrix = stacked or len(shape) == 2
    return Layout(stacked, matrix and pattern is not None and bool(pattern.search(name)))


def role_of(name: str, shape: tuple[int, ...]) -> Role:
    """How spectral methods treat a tensor: as a matrix, as an embedding table, or entry-wise."""
    if _is_stack(name, shape):
        return "matrix"
    if len(shape) != 2 or name.endswith(_NO_MATRIX):
        return "vector"
    return "embedding" if place_of(name).kind in ("embedding", "head") else "matrix"


def is_vocabulary(name: str) -> bool:
    """Whether the rows of a tensor are tokens: embeddings and heads, but not positions."""
    kind = place_of(name).kind
    return kind in ("embedding", "head") and _OTHER_ROWS.search(name) is None


def _is_stack(name: str, shape: tuple[int, ...]) -> bool:
    # Convolutions are (channels, 1, width), and RWKV's mixes (1, 1, width): rows, not matrices.
    experts = place_of(name).kind == "mlp" or ".experts." in name
    return len(shape) == 3 and min(shape[1:]) > 1 and experts


def is_constant(name: str) -> bool:
    """Whether a stored tensor is computed, not learned; it is neither merged nor compared."""
    return _CONSTANT.search(name) is not None


def depth_of(name: str) -> int | None:
    """The layer that a tensor belongs to, or None outside the stack."""
    match = _LAYER.search(name)
    return int(match.group(1)) if match else None


def with_layer(name: str, layer: int) -> str:
    """The name of the same tensor in another layer."""
    match = _LAYER.search(name)
    assert match is not None
    return f"{name[: match.start(1)]}{layer}{name[match.end(1) :]}"


def is_before_layers(name: str) -> bool:
    """Whether a tensor outside the stack lies before it: embeddings, but not GPT-NeoX's head."""
    return place_of(name).kind == "embedding" and "embed_out" not in name


def check_profile(profile: str) -> str:
    """Return the profile, or refuse it with the list of known forms."""
    match = _PROFILE.match(profile)
    if match is None or int(match["k"] or 1) == 0:
        raise RecipeError(
            f"unknown place profile {profile!r}; known: global, blocks(k), layers, each also with "
            "+kind, global+module, blocks(k)+module, modules (k >= 1)"
        )
    return profile


def valid_profile(profile: str) -> str:
    """`check_profile` for pydantic, which takes a ValueError."""
    try:
        return check_profile(profile)
    except RecipeError as error:
        raise ValueError(str(error)) from error


def group_of(name: str, profile: str, n_layers: int) -> str:
    """The place group of a parameter under a profile, in a stack of `n_layers`."""
    match = _PROFILE.match(check_profile(profile))
    assert match is not None  # check_profile has just accepted it
    place = place_of(name)
    by_kind = bool(match["kind"] or match["split"] == "+kind")
    by_module = bool(match["modules"] or match["split"] == "+module")
    if match["all"]:
        group = "all"
    elif place.layer is None:
        return place.module if by_module else "outside"
    elif match["k"]:
        group = f"block.{place.layer * int(match['k']) // max(n_layers, 1)}"
    else:
        group = f"layer.{place.layer}"
    if by_kind or by_module:
        return f"{group}.{place.module if by_module else place.kind}"
    return group


def groups(names: Iterable[str], profile: str) -> dict[str, str]:
    """Place group of every parameter, in the order given: `{name: group}`."""
    names = list(names)
    layers = [layer for layer in (place_of(name).layer for name in names) if layer is not None]
    depth = max(layers, default=-1) + 1
    return {name: group_of(name, profile, depth) for name in names}


def depth_order(group: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts `layer.2` before `layer.10`, and groups outside the stack first."""
    return tuple(
        (1, int(part), "") if part.isdigit() else (0, 0, part)
        for part in (group if group.startswith(("layer.", "block.")) else f".{group}").split(".")
    )
