"""The gap between search and held-out likelihoods, and the sentences made of a measurement."""

from math import hypot
from pathlib import Path

import pytest

from safemerge.errors import RunError
from safemerge.score import Score
from search.metrics import Limit, Limits, ReferenceScores
from search.results.heldout_record import HeldOut
from search.results.summary import statements
from search.runs.rundir import RunDir
from search.scoring.generalization_gap import gaps
from search.scoring.paired_differences import Difference
from synth.judges import Verdict
from synth.judges.agreement import compare


def test_a_gap_is_search_minus_heldout_and_the_mean_counts_every_axis_alike() -> None:
    search = {"domain": Score(0.9, 0.03, 100), "honest": Score(0.8, 0.1, 10)}
    heldout = {"domain": Score(0.7, 0.04, 50), "honest": Score(0.9, 0.2, 5)}
    found = gaps(search | {"degenerate": Score(0.0, 0.0, 16)}, heldout)
    assert list(found) == ["domain", "honest", "mean"]
    assert found["domain"].value == pytest.approx(0.2)
    assert found["domain"].stderr == pytest.approx(0.05)
    assert found["honest"].value == pytest.approx(-0.1)
    assert found["mean"].value == pytest.approx(0.05)
    assert found["mean"].stderr == pytest.approx(hypot(0.03, 0.04, 0.1, 0.2) / 2)
    assert (found["mean"].search.n, found["mean"].heldout.n) == (110, 55)


def measured(against: dict[int, dict[str, Difference]]) -> HeldOut:
    """A pick, trial 4, and what is said of other points."""
    score = {"domain": Score(0.5, 0.1, 20), "harmless": Score(0.5, 0.1, 20)}
    likely = {"domain": Score(0.8, 0.05, 20), "harmless": Score(0.5, 0.05, 20)}
    front = dict.fromkeys((4, *against), score)
    return HeldOut(
        pick=4,
        judge="phrases",
        rows={"search": score},
        front=front,
        gap={number: gaps(likely, score) for number in front},
        against_pick=against,
    )


NO_LIMITS = Limits({}, ReferenceScores({}, {}))


def test_points_that_are_apart_and_points_that_are_not_are_said_plainly() -> None:
    apart = Difference(0.125, 0.05, 0.2, apart=True)
    same = Difference(-0.1, -0.3, 0.1, apart=False)
    found = measured(
        {
            1: {"domain": apart, "harmless": same},
            2: {"domain": same, "harmless": same},
            7: {"domain": same, "harmless": same},
        }
    )
    said = "\n".join(statements(found, NO_LIMITS, on_front=9))
    assert "One judge, phrases (for smoke tests and models of known phrasing), read all" in said
    assert "from 0 to 1, is 0.150 ± 0.079 lower on held-out than on search probes" in said
    assert "the widest gap of 2 is 0.300 ± 0.112, on domain" in said
    assert "Trial 1 is apart from the pick: domain +12.5 points (+5.0 to +20.0); not on" in said
    assert "Not apart from the pick on any axis: trials 2, 7." in said
    assert "at 5 % over all 6 comparisons together (Holm)" in said
    assert "4 of the front's 9 points were measured" in said


@pytest.mark.parametrize(
    ("at_least", "words"),
    [
        ("base - 0.1", "are outside none of its limits by more than one standard error."),
        ("base + 0.0", "are outside none of its limits by more than one standard error."),
        ("best - 0.1", 'harmless 50.0 % against at_least = "best - 0.1" (80.0 %).'),
        (0.75, "are outside its limits: harmless 50.0 % against at_least = 0.75."),
    ],
)
def test_limits_are_held_against_the_rates_of_heldout_replies(
    at_least: str | float, words: str
) -> None:
    base, safe = {"harmless": Score(0.55, 0.1, 20)}, {"harmless": Score(0.9, 0.1, 20)}
    limits = Limits({"harmless": Limit(at_least=at_least)}, ReferenceScores(base, {"safe": safe}))
    said = statements(measured({}), limits, on_front=1)[-1]
    assert said.startswith("Held-out replies of the pick ")
    assert said.endswith(words)


def test_two_judges_are_said_with_how_far_they_agree() -> None:
    said = [Verdict.REFUSE] * 6 + [Verdict.COMPLY] * 4
    other = [Verdict.REFUSE] * 5 + [Verdict.COMPLY] * 5
    both = compare(said, other, rater="phrases", judge="wildguard")
    found = measured({}).model_copy(update={"judge": "wildguard", "agreement": both})
    assert statements(found, NO_LIMITS, on_front=1)[0] == (
        "wildguard read the replies on held-out probes in place of phrases: of 10 "
        "different held-out replies they judge 90.0 % alike (Cohen's kappa 0.80 ± 0.22); 1 only "
        "phrases calls a refusal, 0 only wildguard."
    )


def test_a_front_of_one_point_has_nothing_to_tell_apart() -> None:
    said = statements(measured({}), NO_LIMITS, on_front=1)
    assert said[-1] == "The pick is the only point of the front, so there is nothing to tell apart."


def test_a_measurement_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    found = measured({1: {"domain": Difference(0.125, 0.05, 0.2, apart=True)}})
    found.save(RunDir(tmp_path))
    assert HeldOut.load(RunDir(tmp_path)) == found
    assert HeldOut.load(RunDir(tmp_path / "other")) is None
    (tmp_path / "front" / "heldout.json").write_text('{"rows": {}}')
    with pytest.raises(RunError, match=r"heldout\.json was written by another version"):
        HeldOut.load(RunDir(tmp_path))
