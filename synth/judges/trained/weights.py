"""The weights of the trained judge: one safetensors file, checked as a whole when it is read."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from safemerge.errors import JudgeError
from synth.judges.trained.facts import FACTS, SentenceKind
from synth.judges.trained.sentences import COLUMNS
from synth.probes.verdict import Verdict

WEIGHTS = Path(__file__).with_name("weights.safetensors")
# What the second model tells apart; broken replies are found by strings.
VERDICTS = (Verdict.COMPLY, Verdict.PARTIAL, Verdict.REFUSE, Verdict.UNREADABLE)
_SHAPES = {
    "sentence.weight": (len(SentenceKind), COLUMNS),
    "sentence.bias": (len(SentenceKind),),
    "reply.weight": (len(VERDICTS), FACTS),
    "reply.bias": (len(VERDICTS),),
    "threshold": (1,),
}


@dataclass(frozen=True, slots=True)
class JudgeWeights:
    """Two linear models with softmax, and where a refusal counts as one."""

    sentence_weight: Any  # (5, COLUMNS), float32
    sentence_bias: Any  # (5,)
    reply_weight: Any  # (4, FACTS), float32
    reply_bias: Any  # (4,)
    threshold: float  # least probability of a refusal, in (0, 1)
    digest: str  # of the file


def write_weights(path: Path, weights: JudgeWeights) -> None:
    """Write the file; the large matrix in float16, the rest in float32."""
    from safetensors.numpy import save_file

    save_file(
        {
            # safetensors writes the memory as it lies, so that it has to lie in C order.
            "sentence.weight": np.ascontiguousarray(weights.sentence_weight, np.float16),
            "sentence.bias": np.ascontiguousarray(weights.sentence_bias, np.float32),
            "reply.weight": np.ascontiguousarray(weights.reply_weight, np.float32),
            "reply.bias": np.ascontiguousarray(weights.reply_bias, np.float32),
            "threshold": np.asarray([weights.threshold], np.float32),
        },
        path,
    )


def read_weights(path: Path = WEIGHTS) -> JudgeWeights:
    """The weights in a file.

    Raises:
        JudgeError: for a file that cannot be read, or whose tensors are not those of this judge.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = path.read_bytes()
        tensors = {name: tensor.astype(np.float32) for name, tensor in load(data).items()}
    except OSError as error:
        raise JudgeError(
            f"the weights of the judge 'trained' cannot be read from {path} ({error.strerror}); "
            "install safemerge again"
        ) from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise JudgeError(
            f"the weights of the judge 'trained' in {path} are damaged ({error}); "
            "install safemerge again"
        ) from error
    _check(path, tensors)
    return JudgeWeights(
        sentence_weight=tensors["sentence.weight"],
        sentence_bias=tensors["sentence.bias"],
        reply_weight=tensors["reply.weight"],
        reply_bias=tensors["reply.bias"],
        threshold=float(tensors["threshold"][0]),
        digest=hashlib.sha256(data).hexdigest()[:16],
    )


def _check(path: Path, tensors: dict[str, Any]) -> None:
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    wrong = next((n for n in (*_SHAPES, *shapes) if shapes.get(n) != _SHAPES.get(n)), None)
    if wrong is not None:
        raise JudgeError(
            f"the weights of the judge 'trained' in {path} are damaged: {wrong} has the shape "
            f"{shapes.get(wrong)}, not {_SHAPES.get(wrong)}; install safemerge again"
        )
    wrong = next((n for n, tensor in tensors.items() if not np.isfinite(tensor).all()), None)
    if wrong is not None:
        raise JudgeError(
            f"the weights of the judge 'trained' in {path} are damaged: {wrong} holds a value "
            "that is not a number; install safemerge again"
        )
    threshold = float(tensors["threshold"][0])
    if not 0.0 < threshold < 1.0 or math.isnan(threshold):
        raise JudgeError(
            f"the weights of the judge 'trained' in {path} are damaged: the threshold is "
            f"{threshold:g}, not between 0 and 1; install safemerge again"
        )
