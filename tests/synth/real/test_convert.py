"""A GGUF file becomes a checkpoint with the same weights, tokenizer and template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_llama import make_model
from torch import Tensor

from synth.engines.loading import load_model, load_tokenizer
from synth.real.convert import convert

HEADS, KV_HEADS, VOCAB = 4, 2, 64
TEMPLATE = "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name: str) -> str:
    """model.layers.0.mlp.up_proj.weight -> blk.0.ffn_up.weight, and so on."""
    if name.startswith("model.layers."):
        layer, part = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
        return f"blk.{layer}.{NAMES[part]}.weight"
    return {"model.embed_tokens.weight": "token_embd.weight"}.get(name, "output_norm.weight")


def rotated(weight: Tensor, heads: int) -> Tensor:
    """Rows of a head in the order of GGUF, which pairs neighbours where Llama pairs halves."""
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def write_gguf(path: Path, model: Any) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(VOCAB)
    # Every byte pair of "ab" and single letters; the rest of the vocabulary is never used.
    words = ["<|end|>", "a", "b", "ab", *(f"w{n}" for n in range(VOCAB - 4))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words)
    writer.add_token_types([3, *[1] * (VOCAB - 1)])
    writer.add_token_merges(["a b"])
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_pad_token_id):
        add(0)
    writer.add_chat_template(TEMPLATE)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied
        if ".q_proj." in name or ".k_proj." in name:
            tensor = rotated(tensor, HEADS if ".q_proj." in name else KV_HEADS)
        writer.add_tensor(gguf_name(name), tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_weights_tokenizer_and_template_survive(tmp_path: Path) -> None:
    wanted = make_model(vocab=VOCAB).to(torch.bfloat16)
    write_gguf(tmp_path / "tiny.gguf", wanted)
    convert(tmp_path / "tiny.gguf", tmp_path / "folder")
    model = load_model(tmp_path / "folder", "cpu", torch.bfloat16)
    tokenizer = load_tokenizer(tmp_path / "folder")
    found = model.state_dict()
    assert found.keys() == wanted.state_dict().keys()
    for name, tensor in wanted.state_dict().items():
        assert torch.equal(found[name], tensor), name
    assert tokenizer("ab", add_special_tokens=False)["input_ids"] == [3]
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.eos_token_id == 0
