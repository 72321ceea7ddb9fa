"""The memory formula: its terms, and where they lie."""

from dataclasses import replace

import pytest

from safemerge.inputs import open_inputs
from search.config import SearchConfig
from search.doctor.memory import Batches, Decoder, HeldInputs, peak_memory
from search.doctor.sizes import decoder_sizes, held_inputs
from search.runs.workbench import open_workbench, recipe_template

MODEL = Decoder(
    layers=32,
    hidden=4096,
    inner=14336,
    kv_width=1024,
    vocabulary=128256,
    live_bytes=2,
    parameters=8_030_000_000,
    largest=525_336_576,
)
INPUTS = HeldInputs(
    base=16_060_000_000, sources=48_180_000_000, factors=10**9, selected=10**8, merging=10**9
)
BATCHES = Batches(
    score_tokens=16384,
    score_columns=1000,
    chat_tokens=32768,
    prompt_tokens=8192,
    step_tokens=400,
    step_columns=40,
    recomputes=True,
)


def test_all_that_is_held_lies_on_the_device_or_on_the_host() -> None:
    device = peak_memory(MODEL, INPUTS, BATCHES, process=5 * 10**8, on_cpu=False)
    assert device.host == 5 * 10**8
    assert device.device is not None
    weights = 2 * MODEL.parameters + INPUTS.base + INPUTS.sources + INPUTS.factors + INPUTS.selected
    assert device.device == weights + max(device.stages.values())
    host = peak_memory(MODEL, INPUTS, BATCHES, process=5 * 10**8, on_cpu=False, where="host")
    assert host.host + host.device == device.host + device.device  # type: ignore[operator]
    assert host.device == 2 * MODEL.parameters + max(host.stages.values())
    disk = peak_memory(MODEL, INPUTS, BATCHES, process=5 * 10**8, on_cpu=False, where="disk")
    assert (disk.host, disk.device) == (5 * 10**8, host.device)


def test_on_a_cpu_all_of_it_is_the_process() -> None:
    memory = peak_memory(MODEL, INPUTS, BATCHES, process=7, on_cpu=True)
    assert memory.device is None
    assert memory.host == sum(memory.held.values()) + max(memory.stages.values())


def test_keys_and_values_grow_with_tokens_and_logits_with_columns() -> None:
    def stages(**changes: int) -> dict[str, int]:
        batches = replace(BATCHES, **changes)
        return dict(peak_memory(MODEL, INPUTS, batches, process=0, on_cpu=True).stages)

    before = stages()
    kv = stages(chat_tokens=BATCHES.chat_tokens + 1)["replies"] - before["replies"]
    assert kv == 2 * 32 * 1024 * 2
    logits = stages(score_columns=BATCHES.score_columns + 1)["scoring"] - before["scoring"]
    assert logits == 3 * 4 * MODEL.vocabulary
    assert stages(step_tokens=0)["warm start"] == 0


def test_sizes_are_those_of_the_files_and_the_live_model(config: SearchConfig) -> None:
    bench = open_workbench(config)
    model = decoder_sizes(bench.engine)
    assert model.parameters == sum(p.numel() for p in bench.engine.model.parameters())
    settings = bench.engine.model.config
    assert (model.layers, model.hidden) == (settings.num_hidden_layers, settings.hidden_size)
    inputs = open_inputs(recipe_template(config))
    held = held_inputs(inputs, config)
    assert held.base == sum(inputs.base.tensors[name].nbytes for name in inputs.merged_names)
    assert held.sources == 3 * held.base  # whole checkpoints in the base's dtype
    assert held.factors >= held.selected > 0


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_methods_without_singular_vectors_have_no_factors(
    config: SearchConfig, method: str
) -> None:
    plain = config.model_copy(update={"merge": config.merge.model_copy(update={"method": method})})
    held = held_inputs(open_inputs(recipe_template(plain)), plain)
    assert (held.factors, held.selected) == (0, 0)
    assert held.merging > 0
