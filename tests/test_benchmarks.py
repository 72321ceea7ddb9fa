"""The benchmarks run at their tiny size and report what they promise; no time is asserted."""

import hashlib
import importlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from safemerge.errors import ProbeError
from synth.judges.agreement import read_labelled
from synth.judges.trained.sentences import split_sentences
from synth.probes.probe import AXES, ProbeSet
from synth.probes.verdict import Verdict
from synth.real.prompt import Prompt
from synth.zoo import World, Zoo, draw

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(script: str, out: Path, *arguments: str) -> Any:
    """Run a benchmark as a user does and return what it wrote."""
    command = [sys.executable, str(BENCHMARKS / script), "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the benchmarks keep their tiny models."""
    return tmp_path_factory.mktemp("models")


def test_merges_are_measured_as_whole_processes_and_leave_only_the_models(
    models: Path, tmp_path: Path
) -> None:
    record = run(
        "merge_vs_mergekit.py",
        tmp_path / "out.json",
        *("--size", "tiny", "--models", str(models), "--methods", "task_arithmetic"),
    )
    assert record["machine"]["cores"] >= 1
    (usage,) = record["methods"]["task_arithmetic"]["safemerge"]
    assert usage["wall_s"] > 0
    assert usage["cpu_s"] > 0
    assert usage["peak_mib"] > 50  # Python and torch alone hold more
    folders = {path.name for path in (models / "tiny").iterdir() if path.is_dir()}
    assert folders == {"base", "a", "b", "c"}


def test_phases_of_a_search_are_measured_wherever_its_inputs_are_held(tmp_path: Path) -> None:
    arguments = ("--size", "tiny", "--models", str(tmp_path), "--memory", "disk")
    record = run("fit.py", tmp_path / "out.json", *arguments, "--methods", "resm")
    assert record["cases"].keys() == {"full resm disk", "lora resm disk"}
    for case in record["cases"].values():
        assert {"prepare", "apply", "trial", "warm-start step"} <= case.keys()
        assert all(phase["peak_mib"] > 50 for phase in case.values())


def test_every_piece_of_machinery_is_taken_away_and_compared(models: Path, tmp_path: Path) -> None:
    record = run("machinery.py", tmp_path / "out.json", "--size", "tiny", "--models", str(models))
    for found in record["methods"].values():
        assert found["ratio"].keys() == found["runs"].keys() - {"all machinery"}
        assert all(ratio["wall_s"]["median"] > 0 for ratio in found["ratio"].values())


def test_a_failing_program_ends_the_benchmark_with_what_it_said(
    models: Path, tmp_path: Path
) -> None:
    script = "import sys; sys.exit('out of luck')"
    (tmp_path / "mergekit-yaml").write_text(f"#!{sys.executable}\n{script}\n", encoding="utf-8")
    (tmp_path / "mergekit-yaml").chmod(0o755)
    command = [sys.executable, str(BENCHMARKS / "merge_vs_mergekit.py"), "--size", "tiny"]
    command += ["--models", str(models), "--methods", "linear"]
    command += ["--mergekit", str(tmp_path / "mergekit-yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "out of luck" in done.stderr


def test_the_cost_of_a_trial_is_set_against_merging_from_nothing(
    models: Path, tmp_path: Path
) -> None:
    record = run(
        *("trial_cost.py", tmp_path / "out.json", "--size", "tiny", "--models", str(models)),
        *("--trials", "6"),
    )
    arithmetic, resm = record["task_arithmetic"], record["resm"]
    for took in (arithmetic["apply_s"], *resm["apply_s"].values()):
        assert 0 < took["min"] <= took["median"] <= took["max"]
    whole, applied = arithmetic["whole_merge_s"]["safemerge"], arithmetic["apply_s"]["median"]
    assert arithmetic["ratio"]["safemerge"] == pytest.approx(whole / applied)
    assert resm["ratio"].keys() == {"all trials", *resm["apply_s"]}
    assert resm["all_trials_s"] >= 2 * resm["apply_s"]["last third"]["min"]
    assert resm["kept_gb"] > 0


def test_wrong_answers_repeats_and_leaks_among_probes_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    quality = importlib.import_module("probe_quality").quality
    world = World(0)
    sound = draw.probes(world, "search", 12)
    held = draw.probes(world, "heldout", 12)
    found = quality(ProbeSet(tuple(sound)), world, ProbeSet(tuple(held)), 0)
    assert (found["probes"], found["duplicates"], found["leaks"]) == (48, 0, 0)
    assert [parts["all"]["share"] for parts in found["right"].values()] == [1, 1, 1]
    domain = [probe for probe in sound if probe.axis == "domain"]
    benign = next(probe for probe in sound if probe.axis == "helpful")
    spoilt = [
        *sound[1:],  # the first one is a domain probe
        domain[0].model_copy(update={"answer": "Take 1 mg of it."}),
        domain[1].model_copy(update={"prompt": domain[1].prompt.upper()[:-1] + " ?"}),
        benign.model_copy(update={"axis": "harmless"}),
        held[0],
    ]
    with pytest.raises(ProbeError, match="knows no answer"):
        quality(ProbeSet(tuple(spoilt)), world, ProbeSet(tuple(held)), 0)
    del spoilt[-3]
    found = quality(ProbeSet(tuple(spoilt)), world, ProbeSet(tuple(held)), 0)
    assert (found["duplicates"], found["leaks"]) == (1, 1)
    assert found["right"]["domain"]["all"]["share"] == pytest.approx(12 / 13)
    assert found["right"]["harmless"]["all"]["share"] == pytest.approx(12 / 13)


def test_fewer_probes_are_the_first_of_every_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    subset = importlib.import_module("probes_needed").subset
    whole = ProbeSet(tuple(draw.probes(World(0), "search", 12)))
    fewer = subset(whole, 5)
    for axis in AXES:
        assert fewer.axis(axis).probes == whole.axis(axis).probes[:5]
    assert len(subset(whole, 99)) == len(whole)


def test_a_device_is_measured_against_its_own_floor(tmp_path: Path) -> None:
    record = run("device.py", tmp_path / "out.json", "--size", "tiny", "--device", "cpu")
    floor = record["floor"]
    kinds = [name.split()[0] for name in record["measured"]]
    assert {"factorise", "apply", "likelihood"} == set(kinds)
    for name, found in record["measured"].items():
        dtype = "bfloat16" if name.startswith("likelihood") else "float32"
        least_s = max(
            found["bytes"] / (1e9 * floor["copy_gb_s"]),
            found["flops"] / (1e12 * floor[f"matmul_{dtype}_tflops"]),
        )
        assert least_s > 0
        assert found["share_of_floor"] == pytest.approx(least_s / found["seconds"]["median"]), name
    entries = 4 * 64 * 64 + 3 * 64 * 160
    assert record["measured"]["apply ties (trim and sign)"]["bytes"] == entries * 16


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_stated_memory_is_set_against_what_a_merge_takes(tmp_path: Path) -> None:
    chosen = ("--shapes", "300x200", "--methods", "iso_cts", "led", "safe_projection")
    record = run("peak_memory.py", tmp_path / "out.json", *chosen)
    peaks = record["peaks"]["300x200"]
    assert peaks.keys() == {"iso_cts", "led", "safe_projection"}
    for peak in peaks.values():
        assert 0 < peak["measured"] <= peak["stated"]


def test_the_rates_of_engines_stand_side_by_side(tmp_path: Path) -> None:
    small = ("--size", "tiny", "--prompts", "4", "--words", "8", "--tokens", "4", "--repeats", "1")
    record = run("engine_throughput.py", tmp_path / "out.json", *small)
    rates = record["prompts_per_s"]["transformers"]
    assert rates["chat"]["median"] > 0
    assert rates["score"]["median"] > 0


def test_the_table_shows_what_the_safety_term_changes(raw_zoo: Zoo, tmp_path: Path) -> None:
    worlds = tmp_path / "worlds"
    (worlds / "0").mkdir(parents=True)
    (worlds / "zoo").symlink_to(raw_zoo.root.parent)
    ProbeSet(tuple(draw.probes(World(0), "search", 4))).to_jsonl(worlds / "0" / "probes.jsonl")
    arguments = ["--seeds", "0", "--evaluations", "6", "--baseline", "lm_cocktail"]
    arguments += ["--width", "32", "--effort", "0.02", "--worlds", str(worlds)]
    arguments += ["--runs", str(tmp_path / "runs")]
    record = run("safety_term.py", tmp_path / "out.json", *arguments)
    rows, change = record["rows"], record["safety term changes, points"]
    assert change.keys() == {"lm_cocktail"}
    for metric in ("domain", "harmless", "helpful", "over_refusal"):
        apart = rows["lm_cocktail"][metric]["mean"]
        apart -= rows["lm_cocktail_without_safety"][metric]["mean"]
        assert change["lm_cocktail"][metric]["mean"] == pytest.approx(apart)
    paper = record["paper"]["safety term changes, points"]
    assert paper["evomm_ties"]["two models, STEM"] == {"harmless": 16.5, "domain": 2.2}
    # A second call reads what is finished.
    done = next((tmp_path / "runs" / "0").glob("*.json"))
    kept = json.loads(done.read_text())
    kept["rows"]["base"]["domain"] += 7.0
    done.write_text(json.dumps(kept))
    again = run("safety_term.py", tmp_path / "out.json", *arguments)
    assert again["rows"]["base"]["domain"]["mean"] == rows["base"]["domain"]["mean"] + 7.0


def test_the_overhead_of_a_search_is_measured_beside_what_scoring_costs(
    raw_zoo: Zoo, tmp_path: Path
) -> None:
    size = ("--width", "32", "--models", str(raw_zoo.base.parents[1]), "--measured", "1")
    record = run("search_overhead.py", tmp_path / "out.json", "--trials", "2", "3", *size)
    assert record["numbers"] > 100
    assert record["scoring_cpu_s"] > 0.0
    warm = record["warm_start"]
    assert 0.0 < warm["besides_passes_cpu_s"] < warm["cpu_s"]
    assert warm["steps"] >= 1
    for trials in (2, 3):
        found = record[f"{trials}_trials"]
        assert 0.0 < found["share_of_a_trial"] < 1.0
        assert found["mean_cpu_s"] > 0.0


def test_a_gradient_search_is_set_against_the_best_sampler_of_each_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("quality_summary")

    def result(seed: int, sampler: str, pick: float, *volumes: tuple[int, float]) -> dict[str, Any]:
        return {
            "seed": seed,
            "space": "modules",
            "sampler": sampler,
            "per_axis": 64,
            "numbers": 116,
            "cpu_s": 10.0,
            "gap": 0.01,
            "pick": {"domain": pick, "harmless": pick},
            "curve": [
                {"evaluations": n, "search": v, "heldout": v, "cpu_s": n / 5} for n, v in volumes
            ],
        }

    results = [
        result(1, "tpe", 0.5, (60, 0.2), (300, 0.4)),
        result(1, "random", 0.6, (60, 0.1), (300, 0.3)),
        result(1, "gradient", 0.7, (20, 0.3)),
        result(1, "gradient", 0.8, (30, 0.4)),
        result(1, "gradient", 0.9, (300, 0.8)),
        result(2, "tpe", 0.5, (60, 0.2), (300, 0.9)),
        result(2, "gradient", 0.4, (300, 0.6)),
    ]
    record = module.summary(results)
    here = record["modules"]
    one, other = here["seeds"]["1"], here["seeds"]["2"]
    assert (one["best"], one["level"], one["needed"]) == ("tpe", 0.4, 30)
    assert (one["ratio"], one["ahead"]) == (2.0, pytest.approx(30.0))
    assert (other["needed"], other["ahead"]) == (None, pytest.approx(-10.0))
    assert here["curves"]["tpe"]["300"]["heldout"] == [0.4, 0.9]
    assert here["curves"]["gradient"].keys() == {"20", "30", "300"}
    assert "| tpe |  |  | 0.20 (0.20 to 0.20) | 0.65 (0.40 to 0.90) |" in module.table(record)


def test_real_prompts_are_asked_once_and_of_every_model_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS / "real"))
    asked = importlib.import_module("replies").asked
    prompts = [
        Prompt("edgy", split, "own", f"{split} {number}")
        for split in ("search", "heldout")
        for number in range(9)
    ]
    taken = {"search 0"}
    first = asked(prompts, {("edgy", "heldout", ""): 3, ("edgy", "search", "own"): 5}, taken)
    second = asked(prompts, {("edgy", "search", ""): 9, ("edgy", "search", "other"): 1}, taken)
    texts = [each.prompt.text for each in first + second]
    assert len(set(texts)) == len(texts) == 3 + 8
    assert "search 0" not in texts
    assert Counter(each.model for each in first) == dict.fromkeys(
        ("base", "domain", "refusing", "abstaining"), 2
    )


def test_training_answers_never_share_a_prompt_with_the_untouched_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    examples = importlib.import_module("judge_examples")
    made = [
        *examples.written_examples(),
        *examples.composed_examples(),
        *examples.cut_examples(),
    ]
    fresh = read_labelled(BENCHMARKS.parent / "tests" / "data" / "judging_fresh.jsonl")
    assert not {each.prompt for each in made} & {row.prompt for row in fresh}
    for verdict in Verdict:
        assert sum(each.label == verdict for each in made) >= 30
    for each in made:
        assert len(each.kinds) == len(split_sentences(each.answer))
    assert examples.composed_examples() == examples.composed_examples()


def test_only_replies_with_their_own_hash_get_a_label(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    examples = importlib.import_module("judge_examples")
    replies = {"a": "I won't help with that.", "b": "Use the key.", "c": "Take it."}
    said, labels = tmp_path / "said.jsonl", tmp_path / "labels.jsonl"
    said.write_text(
        "\n".join(json.dumps({"id": i, "prompt": "How?", "reply": r}) for i, r in replies.items())
    )
    told = {"a": "refuse", "b": "comply", "x": "comply"}
    hashes = {i: hashlib.sha256(replies.get(i, "").encode()).hexdigest() for i in told}
    hashes["b"] = hashes["a"]  # the reply was another one when it was labelled
    labels.write_text(
        "\n".join(
            json.dumps({"id": i, "sha256": hashes[i], "label": label}) for i, label in told.items()
        )
    )
    found = examples.real_examples(said, labels)
    assert [(each.answer, each.label) for each in found] == [(replies["a"], Verdict.REFUSE)]


def test_judges_are_compared_on_the_untouched_set(tmp_path: Path) -> None:
    rows = run("judges.py", tmp_path / "out.json")
    by_judge = {row["judge"]: row for row in rows}
    assert set(by_judge) == {"phrases", "trained"}
    assert by_judge["phrases"]["found"] == "13/28"
    assert by_judge["trained"]["kappa"] > by_judge["phrases"]["kappa"]
