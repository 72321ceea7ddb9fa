"""Half precision is kept where it pays, by the clock."""

import pytest
import torch

from synth.engines import half_precision
from synth.engines.half_precision import half_pays


@pytest.mark.parametrize(("seconds", "pays"), [(0.5, True), (1.2, True), (1.3, False)])
def test_half_precision_pays_unless_it_is_clearly_slower(
    monkeypatch: pytest.MonkeyPatch, seconds: float, pays: bool
) -> None:
    took = {torch.float32: 1.0, torch.bfloat16: seconds}
    monkeypatch.setattr(half_precision, "_seconds", lambda x, weight: took[x.dtype])
    half_pays.cache_clear()
    try:
        assert half_pays(torch.bfloat16) is pays
    finally:
        half_pays.cache_clear()


def test_what_is_wide_already_is_kept_and_the_answer_stays() -> None:
    assert half_pays(torch.float32)
    assert half_pays(torch.float64)
    assert len({half_pays(torch.float16) for _ in range(3)}) == 1
