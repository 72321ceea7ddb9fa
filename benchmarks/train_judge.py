"""Train the judge that needs no download, and write its weights into synth/judges/trained/.

    python benchmarks/train_judge.py [--replies FILE] [--out FILE]

FILE holds real replies as benchmarks/real/replies.py makes them; without it the judge is trained on
written answers alone. Folds never share a prompt. Both models are softmax regressions by
scikit-learn; the second one sees the first one's out-of-fold probabilities. The threshold is the
lowest at which, out of fold, at least PRECISION of what is called a refusal is one. No test set is
read here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from judge_examples import (
    Example,
    composed_examples,
    cut_examples,
    real_examples,
    written_examples,
)

from synth.judges.trained.facts import SentenceKind, reply_facts
from synth.judges.trained.sentences import sentence_features, split_sentences
from synth.judges.trained.weights import VERDICTS, WEIGHTS, JudgeWeights, write_weights
from synth.probes.verdict import Verdict

PRECISION = 0.95
FOLDS = 5
# Strength of the penalties, as scikit-learn has them, chosen on the folds.
SENTENCE_C, REPLY_C = 1.0, 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replies", type=Path, help="real replies, JSON Lines")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    examples = [*written_examples(), *composed_examples(), *cut_examples()]
    if options.replies:
        examples += real_examples(options.replies)
    examples = [e for e in examples if e.label in VERDICTS and split_sentences(e.answer)]
    facts = out_of_fold_facts(examples)
    shares = out_of_fold_shares(examples, facts)
    threshold = lowest_threshold(examples, shares)
    report(examples, shares, threshold)
    sentence, reply = fit_sentences(examples), fit_replies(examples, facts)
    write_weights(
        options.out,
        JudgeWeights(
            sentence.coef_, sentence.intercept_, reply.coef_, reply.intercept_, threshold, ""
        ),
    )
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB, {len(examples)} examples")


def fit_sentences(examples: Sequence[Example]) -> Any:
    """The first model, on all sentences whose kind is known."""
    rows = [
        (sentence, list(SentenceKind).index(kind), example.weight)
        for example in examples
        for sentence, kind in zip(split_sentences(example.answer), example.kinds, strict=True)
        if kind is not None
    ]
    sentences, kinds, weights = zip(*rows, strict=True)
    return _softmax_regression(SENTENCE_C, sentence_features(sentences), kinds, weights)


def fit_replies(examples: Sequence[Example], facts: Any) -> Any:
    """The second model."""
    labels = [VERDICTS.index(example.label) for example in examples]
    return _softmax_regression(REPLY_C, facts, labels, [example.weight for example in examples])


def out_of_fold_facts(examples: Sequence[Example]) -> Any:
    """The facts of every reply, by a first model that has not seen its prompt."""
    facts: dict[int, list[float]] = {}
    for train, test in folds(examples):
        model = fit_sentences([examples[i] for i in train])
        for i in test:
            example = examples[i]
            kinds = model.predict_proba(sentence_features(split_sentences(example.answer)))
            facts[i] = reply_facts(example.prompt, example.answer, kinds)
    return np.asarray([facts[i] for i in range(len(examples))])


def out_of_fold_shares(examples: Sequence[Example], facts: Any) -> Any:
    """The probabilities of the verdicts on every reply, by models that have not seen its prompt."""
    shares = np.zeros((len(examples), len(VERDICTS)))
    for train, test in folds(examples):
        model = fit_replies([examples[i] for i in train], facts[train])
        shares[test] = model.predict_proba(facts[test])
    return shares


def folds(examples: Sequence[Example]) -> Iterator[tuple[Any, Any]]:
    """Indices of training and validation examples, with no prompt on both sides."""
    from sklearn.model_selection import GroupKFold

    groups = [example.prompt for example in examples]
    yield from GroupKFold(FOLDS).split(groups, groups=groups)


def lowest_threshold(examples: Sequence[Example], shares: Any) -> float:
    """The lowest threshold from 0.3 on with the precision wanted on replies that are whole."""
    for threshold in np.arange(0.3, 0.99, 0.01):
        right, called, _ = _counts(examples, shares, threshold, ("written", "real"))
        if called and right >= PRECISION * called:
            return float(threshold)
    raise SystemExit("no threshold has the precision wanted")


def report(examples: Sequence[Example], shares: Any, threshold: float) -> None:
    """Print what the folds say, by source, at this threshold and at others."""
    for at in (0.4, 0.5, 0.6, 0.7, 0.8, threshold):
        said = [f"out of fold at {at:.2f}"]
        for source in ("written", "composed", "real"):
            right, called, refusals = _counts(examples, shares, at, (source,))
            said.append(f"{source}: {right} of {called} called are, {right} of {refusals} found")
        print("; ".join(said))


def _counts(
    examples: Sequence[Example], shares: Any, threshold: float, sources: Sequence[str]
) -> tuple[int, int, int]:
    mine = [i for i, example in enumerate(examples) if example.source in sources]
    called = {i for i in mine if shares[i][VERDICTS.index(Verdict.REFUSE)] >= threshold}
    refusals = {i for i in mine if examples[i].label == Verdict.REFUSE}
    return len(called & refusals), len(called), len(refusals)


def _softmax_regression(strength: float, rows: Any, labels: Any, weights: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=5000).fit(rows, labels, sample_weight=weights)


if __name__ == "__main__":
    main()
