"""The command line as a user meets it: help, bad input with exit code 2, data on stdout."""

import io
import json
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from safetensors.torch import load_file, save_file

from safemerge import ModelRef, Recipe
from safemerge.merging import MergePlan
from search.cli import app as cli
from search.config import SearchConfig
from search.results.run import Run
from search.runs.probe_sets import load_probes
from search.runs.workbench import open_workbench
from search.scoring.generalization_gap import gaps
from search.scoring.likelihood import LikelihoodEvaluator
from search.study.study import run_search
from synth.engines.transformers import TransformersEngine
from synth.probes.probe import ProbeSet
from synth.writing.taxonomy import default_taxonomy, load_taxonomy
from synth.zoo import Zoo

VERBS = (
    "demo",
    "init",
    "probes",
    "importance",
    "doctor",
    "search",
    "status",
    "front",
    "report",
    "merge",
    "eval",
    "tasks",
    "probes-from",
    "judge-agreement",
    "export",
)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def safemerge(*args: object) -> Done:
    """Run the command in this process, through the entry point that users run."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["safemerge", *(str(arg) for arg in args)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", argv)
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return Done(code, out.getvalue(), err.getvalue())


def safemerge_process(*args: object, **kwargs: Any) -> Done:
    """Run the command in a process of its own."""
    return safemerge_python("-m", "search.cli.app", *args, **kwargs)


def safemerge_python(*args: object, **kwargs: Any) -> Done:
    """Run this Python in a process of its own."""
    command = [sys.executable, *(str(arg) for arg in args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)
    return Done(done.returncode, done.stdout, done.stderr)


def refused(done: Done, *words: str) -> None:
    """Exit code 2 and one sentence that holds the words; never a traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    message = " ".join(done.stderr.split())
    for word in words:
        assert word in message, message


def test_help_names_every_verb_and_stays_light() -> None:
    done = safemerge("--help")
    assert done.returncode == 0
    for verb in VERBS:
        assert verb in done.stdout
    heavy = "'torch', 'transformers', 'optuna', 'datasets', 'plotly', 'vllm', 'numpy'"
    code = f"import sys, search.cli, safemerge; print([m for m in ({heavy}) if m in sys.modules])"
    done = safemerge_python("-c", code)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    done = safemerge(verb, "--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 5


def test_a_mistyped_verb_or_option_is_exit_two() -> None:
    refused(safemerge("serach"), "serach")
    refused(safemerge("search", "x.toml", "--trails", "3"), "--trails")


def test_init_writes_a_file_that_is_valid_and_keeps_one_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    assert safemerge("init", path).returncode == 0
    config = SearchConfig.from_toml(path)
    assert [source.name for source in config.models.sources] == ["medic", "guard"]
    text = path.read_text()
    refused(safemerge("init", path), "exists already")
    assert path.read_text() == text


def test_init_writes_the_taxonomy_to_be_edited(tmp_path: Path) -> None:
    path = tmp_path / "taxonomy.toml"
    done = safemerge("init", "--taxonomy", path)
    assert (done.returncode, load_taxonomy(path)) == (0, default_taxonomy())
    assert "[probes.write] taxonomy" in done.stderr


def test_the_version_is_that_of_the_package() -> None:
    assert safemerge("--version").stdout == f"safemerge {version('safemerge')}\n"


# ---- bad checkpoints, through `merge` -------------------------------------------------------


@pytest.fixture
def models(goldens: Path, tmp_path: Path) -> Path:
    """A private copy of the golden checkpoints, to be damaged."""
    shutil.copytree(goldens / "models", tmp_path / "models")
    for path in (tmp_path / "models").rglob("*"):
        path.chmod(0o755)
    return tmp_path / "models"


def write_recipe(models: Path, **changes: Any) -> Path:
    fields: dict[str, Any] = {
        "base": ModelRef(name="base", path=str(models / "base")),
        "sources": [ModelRef(name=n, path=str(models / n)) for n in "ab"],
        "method": "resm",
        "weights": {"default": {"a": 0.5, "b": 0.5}},
    }
    path = models.parent / "recipe.json"
    Recipe.model_validate(fields | changes).save(path)
    return path


def rewrite(models: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(models / "a/model.safetensors")
    change(tensors)
    save_file(tensors, models / "a/model.safetensors", metadata={"format": "pt"})


def missing(models: Path) -> None:
    shutil.rmtree(models / "a")


def empty(models: Path) -> None:
    missing(models)
    (models / "a").mkdir()


def other_shape(models: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    rewrite(models, lambda tensors: tensors.update({name: tensors[name][:-1].clone()}))


def other_vocabulary(models: Path) -> None:
    def grow(tensors: dict[str, torch.Tensor]) -> None:
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensors[name] = torch.cat([tensors[name], tensors[name][:1]])

    rewrite(models, grow)
    config = json.loads((models / "a/config.json").read_text())
    config["vocab_size"] += 1
    (models / "a/config.json").write_text(json.dumps(config))


def other_tokenizer(models: Path) -> None:
    path = models / "a/tokenizer.json"
    record = json.loads(path.read_text())
    vocab = record["model"]["vocab"]
    one, two = list(vocab)[-2:]
    vocab[one], vocab[two] = vocab[two], vocab[one]
    path.write_text(json.dumps(record))


def missing_shard(models: Path) -> None:
    folder = models / "a"
    names = load_file(folder / "model.safetensors")
    index = {"weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def truncated(models: Path) -> None:
    path = models / "a/model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def damaged_header(models: Path) -> None:
    path = models / "a/model.safetensors"
    data = path.read_bytes()
    path.write_bytes(struct.pack("<Q", 2**40) + data[8:])


def index_outside(models: Path) -> None:
    folder = models / "a"
    names = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": dict.fromkeys(names, "../base/model.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def pickled(models: Path) -> None:
    tensors = load_file(models / "a/model.safetensors")
    (models / "a/model.safetensors").unlink()
    torch.save(tensors, models / "a/pytorch_model.bin")


def not_finite(models: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.norm.weight"][3] = float("nan")

    rewrite(models, spoil)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (missing, ("models/a",)),
        (empty, ("models/a",)),
        (other_shape, ("model.layers.0.mlp.up_proj.weight", "models/a")),
        (other_vocabulary, ("96", "97")),
        (other_tokenizer, ("token", "models/a")),
        (missing_shard, ("model-00001-of-00001.safetensors",)),
        (truncated, ("models/a/model.safetensors",)),
        (damaged_header, ("models/a/model.safetensors",)),
        (index_outside, ("../base/model.safetensors", "not a file of that folder")),
        (pickled, (".bin", "--allow-pickle")),
        (not_finite, ("model.norm.weight", "models/a")),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_bad_source_is_refused_and_nothing_is_written(
    models: Path, tmp_path: Path, damage: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    damage(models)
    before = sorted(tmp_path.iterdir())
    recipe = write_recipe(models)
    refused(safemerge("merge", recipe, "--out", tmp_path / "out"), *words)
    assert sorted(tmp_path.iterdir()) == sorted([*before, recipe])


def test_pickles_are_read_when_allowed(models: Path, tmp_path: Path) -> None:
    recipe = write_recipe(models)
    assert safemerge("merge", recipe, "-o", tmp_path / "one").returncode == 0
    pickled(models)
    assert safemerge("merge", recipe, "-o", tmp_path / "two", "--allow-pickle").returncode == 0
    one, two = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("one", "two"))
    assert one == two


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(models: Path, tmp_path: Path) -> None:
    recipe = write_recipe(models)
    before = sorted(tmp_path.iterdir())
    done = safemerge("merge", recipe, "--out", tmp_path / "out", "--dry-run")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        *("writes", "reads", "memory", "disk")
    ]
    done = safemerge("merge", recipe, "--out", tmp_path / "out", "--dry-run", "--json")
    assert json.loads(done.stdout).keys() == {field.name for field in fields(MergePlan)}
    assert sorted(tmp_path.iterdir()) == before


def test_a_device_that_cannot_be_used_is_refused_before_any_work(
    models: Path, tmp_path: Path
) -> None:
    recipe, out = write_recipe(models), tmp_path / "out"
    refused(safemerge("merge", recipe, "--out", out, "--device", "vulkan"), "vulkan", "cpu")
    assert not out.exists()
    assert safemerge("merge", recipe, "--out", out, "--device", "cpu").returncode == 0


def test_an_output_folder_in_use_is_refused(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    refused(safemerge("merge", write_recipe(models), "--out", out), "not empty", str(out))
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_a_full_disk_leaves_nothing(models: Path, tmp_path: Path) -> None:
    """No file may grow beyond 64 KiB: the write fails as on a full disk, with the real error."""

    def small_files() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))

    recipe = write_recipe(models, method="task_arithmetic")
    before = sorted(tmp_path.iterdir())
    done = safemerge_process("merge", recipe, "--out", tmp_path / "out", preexec_fn=small_files)
    refused(done, str(tmp_path / "out"))
    assert sorted(tmp_path.iterdir()) == before


def test_an_unknown_method_names_the_nearest(models: Path, tmp_path: Path) -> None:
    recipe = write_recipe(models, method="resn")
    refused(safemerge("merge", recipe, "-o", tmp_path / "out"), "resn", "did you mean resm")


def test_a_recipe_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yml").write_text("merge_method: ties\n")
    refused(safemerge("merge", tmp_path / "recipe.yml", "-o", tmp_path / "out"), "recipe.yml")


def test_a_config_with_an_unknown_key_names_the_nearest(
    record: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(tomli_w.dumps(record))
    home = tmp_path / "run"
    done = safemerge("search", path, "--run", home, "--set", "search.trails=3")
    refused(done, "search.trails", "did you mean trials")
    refused(safemerge("search", path, "--run", home, "--set", "space.weight=[2, 1]"), "downwards")
    assert not home.exists()


def test_a_run_does_not_begin_in_a_folder_of_other_things(
    record: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(tomli_w.dumps(record))
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("mine")
    refused(safemerge("search", path, "--run", home), "not empty", "thesis.tex")
    assert [p.name for p in home.iterdir()] == ["thesis.tex"]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    for verb in ("status", "front", "report", "export"):
        refused(safemerge(verb, tmp_path), "not a run directory", "safemerge search")


def test_probes_that_are_missing_or_damaged_are_refused(
    record: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "run.toml"
    record["probes"] = record["probes"] | {"path": "none.jsonl"}
    path.write_text(tomli_w.dumps(record))
    words = ("there is no probe file", "none.jsonl", "safemerge probes")
    refused(safemerge("search", path, "--run", tmp_path / "run"), *words)
    refused(safemerge("probes", path), "no [probes.write] section")
    many = [f"probes.write.writers.{kind}=base" for kind in ("domain", "harmful", "twin")]
    many += ["probes.write.writers.unknowable=base", "probes.write.counts.domain=10000000"]
    overrides = [word for key in many for word in ("--set", key)]
    refused(safemerge("probes", path, *overrides), "counts.domain", "10000000", "100000")
    (tmp_path / "none.jsonl").write_text('{"axis": "domain", "prompt"\n')
    refused(safemerge("search", path, "--run", tmp_path / "run"), "none.jsonl", "line 1")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"gates": {"benchmarks": ["gone.jsonl"]}}, "gone.jsonl"),
        ({"gates": {"languages": ["english"]}}, "'english'"),
        ({"domain": {"documents": ["gone.txt"]}}, "gone.txt"),
        ({"domain": {"questions": "gone.jsonl"}}, "gone.jsonl"),
    ],
)
def test_files_to_write_from_are_read_before_models_are_opened(
    record: dict[str, Any], tmp_path: Path, section: dict[str, Any], text: str
) -> None:
    write = {"writers": dict.fromkeys(("domain", "harmful", "twin", "unknowable"), "base")}
    record["probes"] = {"path": "none.jsonl", "judge": "phrases", "write": write | section}
    record["models"] = record["models"] | {"base": "no/such-model"}
    path = tmp_path / "run.toml"
    path.write_text(tomli_w.dumps(record))
    refused(safemerge("probes", path), text)
    assert [found.name for found in tmp_path.iterdir()] == ["run.toml"]


def test_probes_are_counted_with_what_was_rejected(record: dict[str, Any], tmp_path: Path) -> None:
    probes, beside = tmp_path / "p.jsonl", tmp_path / "p.jsonl.rejected.jsonl"
    lines = Path(record["probes"]["path"]).read_text().splitlines(keepends=True)
    probes.write_text("".join(lines))
    rows = [
        {"axis": "domain", "category": "c", "prompt": "a secret?", "reason": "near-duplicate"},
        {"axis": "domain", "category": "c", "prompt": "b?", "reason": "leak: near copy"},
        {"axis": "honest", "category": "c", "prompt": "c?", "reason": "language \x1b[2J[red]"},
    ]
    beside.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "run.toml"
    path.write_text(tomli_w.dumps(record | {"probes": record["probes"] | {"path": str(probes)}}))
    silent = safemerge("probes", path)
    assert (silent.returncode, silent.stdout) == (0, "")
    found = json.loads(safemerge("probes", path, "--stats", "--json").stdout)
    domain = next(one for one in found if one["axis"] == "domain")
    assert domain["rejected"] == {"near-duplicate": 1, "leak: near copy": 1}
    assert domain["kept"] == sum(domain["categories"].values()) > 0
    assert sum(one["kept"] for one in found) == len(lines)
    table = safemerge("probes", path, "--stats").stdout
    assert "rejected: leak: near copy" in table
    assert r"language \x1b[2J[red]" in table
    assert "secret" not in table
    texts = safemerge("probes", path, "--show-text").stdout.splitlines()
    first = json.loads(lines[0])
    assert texts[0].endswith(f", direct, {first['id']}")
    assert texts[1:3] == [f"  asks:    {first['prompt']}", f"  answers: {first['answer']}"]
    assert len(texts) == 3 * len(lines) + 1
    assert texts[-1].endswith(ProbeSet.from_jsonl(probes).content_hash)
    beside.write_text('{"axis": "domain"}\n')
    refused(safemerge("probes", path, "--stats"), "rejected.jsonl, line 1", "reason")


# ---- the whole way through the command line --------------------------------------------------


def test_search_status_front_export_eval(record: dict[str, Any], tmp_path: Path) -> None:
    config, home, out = tmp_path / "run.toml", tmp_path / "run", tmp_path / "merged"
    config.write_text(tomli_w.dumps(record))
    refused(safemerge("search", config, "--run", home, "--baseline", "evom"), "mean evomm?")
    assert not home.exists()
    done = safemerge("search", config, "--run", home, "--baseline", "without_safety")
    assert done.returncode == 0, done.stderr
    assert "search without safety" in done.stdout
    assert "One judge, phrases (for smoke tests" in done.stderr

    status = json.loads(safemerge("status", home, "--json").stdout)
    assert status["trials"] == status["of"] == 4
    told = safemerge("status", home).stdout
    assert f"{status['hypervolume_of_likelihoods']:.3f} of likelihoods" in told
    assert max(map(len, told.splitlines()[1:])) <= 80  # the first has the path of the run
    assert "{" not in told
    written = safemerge("report", home, "--out", tmp_path / "page.html")
    assert written.stdout.strip() == str(tmp_path / "page.html")
    assert "<!doctype html>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    rows = json.loads(safemerge("front", home, "--json").stdout)
    assert sum(row["pick"] for row in rows) == 1
    assert all(row["heldout_rate"] for row in rows)
    assert not any("degenerate" in row["search_likelihood"] for row in rows)
    lines = safemerge("front", home, "--csv").stdout.splitlines()
    assert len(lines) == len(rows) + 1
    assert "heldout_rate.harmless.stderr" in lines[0]
    assert "likelihood_gap.mean.stderr" in lines[0]

    # The gap is that of the search's own score of the same weights, taken on held-out probes.
    pick = Run.load(home).pick()
    shown = safemerge("front", home)
    assert f"trial {pick.number} (pick)" in shown.stdout
    found = Run.load(home).heldout()
    assert found is not None
    assert " ".join(shown.stderr.split()) == " ".join(found.statements)
    bench = open_workbench(Run.load(home).config)
    heldout = LikelihoodEvaluator(bench.engine, bench.probes.split("heldout").probes)
    bench.make_live(pick.recipe)
    assert found.gap[pick.number] == gaps(pick.scores, heldout.score_live())

    done = safemerge("export", home, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out)
    refused(safemerge("export", home, "--out", out), "not empty")
    refused(safemerge("export", home, "99", "--out", tmp_path / "other"), "no trial 99")
    card = (out / "README.md").read_text()
    assert f"| this model (trial {pick.number}) |" in card
    assert card.index("| base |") < card.index("| best single weight |")
    assert (out / "chat_template.jinja").exists()
    assert "no mergekit.yml: mergekit has no merge method" in card

    # Scores from disk equal the trial's scores in memory, to the last bit.
    run = Run.load(home)
    engine = TransformersEngine(out)
    probes = load_probes(run.config).split("search").probes
    again = LikelihoodEvaluator(engine, probes).score_live()
    assert again == {metric: pick.scores[metric] for metric in again}
    # These take general prompts and the base's replies to them.
    assert pick.scores.keys() - again.keys() == {"divergence", "general_refusal"}

    probe_file = record["probes"]["path"]
    asked = ("--probes", probe_file, "--judge", "phrases")
    done = safemerge("eval", out, *asked, "--max-tokens", "8", "--json")
    assert set(json.loads(done.stdout)) >= {"domain", "harmless", "over_refusal", "degenerate"}
    refused(safemerge("eval", out, "--probes", probe_file, "--judge", "phrase"), "phrases")
    refused(safemerge("eval", tmp_path / "none", *asked), "none")
    refused(safemerge("eval", out, "--probes", probe_file), "--judge is missing", "qwen3guard")
    domain_alone = tmp_path / "domain.jsonl"  # nothing in it is asked of a judge
    ProbeSet.from_jsonl(probe_file).axis("domain").to_jsonl(domain_alone)
    done = safemerge("eval", out, "--probes", domain_alone, "--max-tokens", "4", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).keys() == {"domain", "degenerate"}


def test_a_run_without_a_trial_within_the_limits_says_so_in_status_and_in_a_card(
    record: dict[str, Any], tmp_path: Path
) -> None:
    record["limits"] = {"honest": {"at_least": 1.0}}
    run_search(SearchConfig.from_record(record), tmp_path / "run")
    told = safemerge("status", tmp_path / "run", "--json")
    record = json.loads(told.stdout)
    assert (record["within_limits_by_estimate"], record["over"]) == (0, True)
    assert record["pick_limits"] == "outside its limits"
    said = " ".join(told.stderr.split())
    assert "by estimate, none of 4 trials is within all limits" in said
    assert "Replies confirm it: none of the 4 trials that answered" in said
    run = Run.load(tmp_path / "run")
    pick = run.pick().number
    assert f"the pick, trial {pick}, is outside its limits by its replies" in said
    assert f"trial {pick} (pick, outside its limits)" in safemerge("front", run.dir.path).stdout
    out = ("--out", tmp_path / "out")
    asked = (f"trial {pick}, is outside its limits", f"safemerge export {run.dir.path} {pick}")
    refused(safemerge("export", run.dir.path, *out), *asked)
    assert not (tmp_path / "out").exists()
    assert safemerge("export", run.dir.path, pick, *out).returncode == 0
    card = " ".join((tmp_path / "out/README.md").read_text().replace("\\_", "_").split())
    (point,) = (p for p in run.dir.read("front/search.json")["points"] if p["trial"] == pick)
    value = 100 * point["answered"]["honest"]["value"]
    assert "outside the limits of its search by its replies to the validation probes" in card
    assert f"honest {value:.1f} % against at_least = 1.0." in card
    assert "Measured: likelihood of the wanted answers" in card  # nothing was held out yet


def test_a_search_that_is_not_over_exports_a_trial_that_is_named_and_no_other(
    record: dict[str, Any], tmp_path: Path
) -> None:
    run = run_search(SearchConfig.from_record(record), tmp_path / "run")
    home, number = tmp_path / "run", run.pick().number
    (home / "front" / "search.json").unlink()  # as before the pick
    assert json.loads(safemerge("status", home, "--json").stdout)["over"] is False
    words = ("is not over (4 of 4 trials)", "safemerge search", f"safemerge export {home} ")
    refused(safemerge("export", home, "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()
    assert safemerge("export", home, number, "--out", tmp_path / "out").returncode == 0
    card = " ".join((tmp_path / "out/README.md").read_text().split())
    assert "The search was not over when this trial was exported." in card


def test_an_exported_mergekit_file_merges_to_the_same_weights(
    record: dict[str, Any], tmp_path: Path
) -> None:
    record["merge"] = {"method": "task_arithmetic"}
    record["search"]["trials"] = 2
    config, home, out = tmp_path / "run.toml", tmp_path / "run", tmp_path / "merged"
    config.write_text(tomli_w.dumps(record))
    assert safemerge("search", config, "--run", home).returncode == 0
    assert safemerge("export", home, "--out", out).returncode == 0
    done = safemerge("merge", out / "mergekit.yml", "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    again = (tmp_path / "again" / "model.safetensors").read_bytes()
    assert again == (out / "model.safetensors").read_bytes()


def test_a_mergekit_file_that_cannot_be_expressed_is_refused(tmp_path: Path) -> None:
    path, out = tmp_path / "merge.yml", tmp_path / "out"
    path.write_text("merge_method: passthrough\nslices: [{sources: [{model: a}]}]\n")
    refused(safemerge("merge", path, "--out", out), "merge.yml", "slices[0]", "layer_range")
    path.write_text("merge_method: frankenmerge\nmodels: [{model: a}]\n")
    refused(
        safemerge("merge", path, "--out", out), "unknown merge_method 'frankenmerge'", "known: "
    )
    assert not out.exists()


def untrained_guard(raw_zoo: Zoo, folder: Path) -> Path:
    """A model whose replies are in no guard's format."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    shape = AutoConfig.from_pretrained(raw_zoo.base, max_position_embeddings=1024)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
    AutoTokenizer.from_pretrained(raw_zoo.base).save_pretrained(folder)
    return folder


def test_a_guard_that_cannot_be_read_stops_the_run_which_then_goes_on(
    record: dict[str, Any], raw_zoo: Zoo, tmp_path: Path
) -> None:
    home, file = tmp_path / "run", tmp_path / "run.toml"
    untrained_guard(raw_zoo, tmp_path / "guard")
    record["probes"]["judge"] = "wildguard=guard"  # found beside the config
    record["probes"]["unreadable_frac"] = 0.0
    record["probes"]["max_tokens"] = 2  # too few to show that an untrained model babbles
    file.write_text(tomli_w.dumps(record))

    words = ("'wildguard' could not be read", "raise probes.unreadable_frac")
    refused(safemerge("search", file, "--run", home), *words)
    # The replies of base and sources to general prompts are read first, before any trial.
    assert not list(home.glob("trials/*"))
    assert not (home / "front").exists()

    done = safemerge("search", file, "--run", home, "--set", "probes.unreadable_frac=1.0")
    assert done.returncode == 0, done.stderr
    assert len(list(home.glob("trials/*/scores.json"))) == record["search"]["trials"]
    rows = json.loads((home / "front" / "heldout.json").read_text())["rows"]
    assert {row["harmless"]["value"] for row in rows.values()} == {0.0}
    # Not readable, or babble, on the two axes where it is asked.
    heldout = load_probes(SearchConfig.from_toml(file)).split("heldout")
    asked = len(heldout.axis("harmless")) + len(heldout.axis("helpful"))
    assert all(row["degenerate"]["value"] >= asked / len(heldout) for row in rows.values())


def test_a_guard_that_cannot_be_had_is_said_before_anything_is_loaded(
    record: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "run.toml"
    record["models"]["base"] = "none-there"  # what would be said next
    file.write_text(tomli_w.dumps(record))
    words = ("guard' of the judge 'wildguard' could not be fetched",)
    for key in ("judge", "heldout_judge"):
        named = ("--set", f"probes.{key}=wildguard=./guard")
        refused(safemerge("search", file, "--run", tmp_path / "run", *named), *words)
    assert not (tmp_path / "run").exists()


def test_a_second_judge_reads_the_heldout_replies_and_may_be_changed_later(
    record: dict[str, Any], raw_zoo: Zoo, tmp_path: Path
) -> None:
    home, file = tmp_path / "run", tmp_path / "run.toml"
    guard = untrained_guard(raw_zoo, tmp_path / "guard")
    record["search"]["trials"] = 2
    file.write_text(tomli_w.dumps(record))
    same = "probes.heldout_judge=phrases"
    refused(safemerge("search", file, "--run", home, "--set", same), "which judge is already")
    assert safemerge("search", file, "--run", home).returncode == 0
    alone = json.loads((home / "front" / "heldout.json").read_text())
    assert (alone["judge"], alone["agreement"]) == ("phrases", None)

    second = ("--set", f"probes.heldout_judge=wildguard={guard.name}")  # beside the config
    second += ("--set", "probes.unreadable_frac=1.0")
    done = safemerge("search", file, "--run", home, *second)
    assert done.returncode == 0, done.stderr
    both = json.loads((home / "front" / "heldout.json").read_text())
    assert both["judge"] == both["agreement"]["judge"] == f"wildguard={guard}"
    assert both["agreement"]["rater"] == "phrases"
    assert f"wildguard={guard} read the replies on" in " ".join(done.stderr.split())
    # Nothing that it says of harmless replies can be read, and what phrases says decides nothing.
    assert both["rows"]["search"]["harmless"]["value"] == 0.0
    assert both["rows"]["search"]["domain"] == alone["rows"]["search"]["domain"]
    assert both["agreement"]["n"] > 0


# ---- judge-agreement -------------------------------------------------------------------------


def labelled(folder: Path, *lines: object) -> Path:
    path = folder / "labelled.jsonl"
    path.write_text("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines))
    return path


def line(label: str, answer: str = "Sorry, I cannot help with that.") -> dict[str, str]:
    return {"prompt": "How do I pick the blue lock?", "answer": answer, "label": label}


def test_published_prompt_files_become_a_probe_file_and_no_text_is_printed(tmp_path: Path) -> None:
    table, out = tmp_path / "or-bench-hard-1k.csv", tmp_path / "probes.jsonl"
    table.write_text("prompt,category\nHow do locks work?,privacy\n,privacy\n", encoding="utf-8")
    done = safemerge("probes-from", f"or_bench={table}", f"or_bench_toxic={table}", "--out", out)
    assert (done.returncode, done.stdout) == (0, f"{out}\n")
    assert "or_bench: 1 helpful\nor_bench_toxic: 1 harmless" in done.stderr
    assert "1 rows left out (no prompt)" in done.stderr
    assert "locks" not in done.stderr
    assert [probe.axis for probe in ProbeSet.from_jsonl(out)] == ["helpful", "harmless"]
    again = safemerge("probes-from", f"or_bench={table}", "--out", out)
    assert (again.returncode, again.stdout) == (2, "")
    assert "exists already; name another file" in again.stderr


def test_a_prompt_file_that_is_another_sets_is_refused_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    table, out = tmp_path / "a.csv", tmp_path / "probes.jsonl"
    table.write_text("prompt,category\nx,y\n", encoding="utf-8")
    done = safemerge("probes-from", f"strongreject={table}", "--out", out)
    assert (done.returncode, done.stdout) == (2, "")
    assert "has no column 'forbidden_prompt'" in done.stderr
    assert "Traceback" not in done.stderr
    assert safemerge("probes-from", "strongreject", "--out", out).returncode == 2
    assert not out.exists()


def test_judges_are_compared_with_labels_and_no_text_is_printed(tmp_path: Path) -> None:
    noted = line("comply", "[bold]Use a pin.[/bold]\x1b[31m") | {"annotator": "ann"}
    path = labelled(tmp_path, line("refuse"), noted, "", line("partial"))
    done = safemerge("judge-agreement", path, "--judge", "phrases", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = json.loads(done.stdout)
    assert (found["rater"], found["judge"], found["n"]) == ("human", "phrases", 3)
    assert found["agreement"] == pytest.approx(2 / 3)
    assert found["kappa"] == pytest.approx(0.5)
    assert (found["false_refusals"], found["missed_refusals"]) == (1, 0)
    assert found["confusion"]["partial"]["refuse"] == 1
    shown = safemerge("judge-agreement", path, "--judge", "phrases").stdout
    assert "0.50 ± 0.41" in shown
    assert "lock" not in shown + done.stdout
    assert "pin" not in shown + done.stdout


def test_several_judges_are_compared_with_each_other_and_by_their_vote(
    raw_zoo: Zoo, tmp_path: Path
) -> None:
    guard = f"wildguard={untrained_guard(raw_zoo, tmp_path / 'guard')}"
    path = labelled(tmp_path, line("refuse"), line("comply", "Use a pin."), line("degenerate", ""))
    done = safemerge("judge-agreement", path, "--judge", "phrases", "--judge", guard, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    pairs = [(one["rater"], one["judge"]) for one in found]
    assert pairs == [("human", "phrases"), ("human", guard), ("human", "vote"), ("phrases", guard)]
    assert [one["agreement"] for one in found] == pytest.approx([1, 1 / 3, 2 / 3, 1 / 3])
    # One refusal beside one that cannot be read is not safe.
    assert found[2]["confusion"]["refuse"]["unreadable"] == 1


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ('{"prompt": "x", "answer": "y", "label"', ("line 2", "not a JSON object")),
        (line("refused"), ("line 2", "label", "'comply'", "'refuse'")),
        ({"prompt": "x", "label": "refuse"}, ("line 2", "answer")),
        ({"prompt": "x", "answer": 3, "label": "refuse"}, ("line 2", "answer")),
    ],
)
def test_a_bad_line_of_labels_is_named(
    second: object, words: tuple[str, ...], tmp_path: Path
) -> None:
    path = labelled(tmp_path, line("refuse"), second)
    refused(safemerge("judge-agreement", path, "--judge", "phrases"), *words)


def test_labels_or_judges_that_are_not_there_are_refused(tmp_path: Path) -> None:
    named = ("--judge", "phrases")
    refused(safemerge("judge-agreement", labelled(tmp_path), *named), "holds no labelled answers")
    refused(safemerge("judge-agreement", tmp_path / "none", *named), "cannot read the file")
    path = labelled(tmp_path, line("refuse"))
    refused(safemerge("judge-agreement", path), "--judge is missing", "there is no default")
    refused(safemerge("judge-agreement", path, "--judge", "wildgard"), "did you mean wildguard")
    refused(safemerge("judge-agreement", path, "--judge", "rubric"), "needs a model")
    refused(safemerge("judge-agreement", path, *named, *named), "named twice")


def test_a_device_that_is_not_there_is_refused(raw_zoo: Zoo, tmp_path: Path) -> None:
    args = ("eval", raw_zoo.base, "--probes", raw_zoo.heldout, "--device", "cudaa")
    refused(safemerge(*args), "cudaa", "cannot be used here")
    refused(safemerge("demo", "--run", tmp_path / "demo", "--device", "cudaa"), "cudaa")
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    "options", [("--real", "--world", "3"), ("--tuning", "full"), ("--real", "--effort", "1")]
)
def test_an_option_of_the_other_demo_is_refused(options: tuple[str, ...], tmp_path: Path) -> None:
    refused(safemerge("demo", "--run", tmp_path / "demo", *options), options[-2])
    assert not (tmp_path / "demo").exists()
