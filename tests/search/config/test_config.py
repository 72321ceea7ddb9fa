"""SearchConfig: TOML in and out, and refusals that name key, value and remedy."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from safemerge.errors import ConfigError
from safemerge.methods import METHODS, STAGES
from search.config import SearchConfig

MINIMAL: dict[str, Any] = {
    "schema": 1,
    "models": {"base": "base", "sources": [{"name": "a", "path": "a"}]},
    "probes": {"path": "probes.jsonl", "judge": "phrases"},
}


def write(folder: Path, record: dict[str, Any]) -> Path:
    path = folder / "run.toml"
    path.write_text(tomli_w.dumps(record))
    return path


def test_record_round_trip(config: SearchConfig) -> None:
    assert SearchConfig.from_record(config.record()) == config


def test_toml_round_trip(config: SearchConfig, tmp_path: Path) -> None:
    assert SearchConfig.from_toml(write(tmp_path, config.record())) == config


def test_relative_paths_follow_the_file_and_hub_ids_stay(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    config = SearchConfig.from_toml(write(tmp_path, MINIMAL))
    assert config.models.sources[0].path == str(tmp_path / "a")
    assert config.models.base == str(tmp_path / "base")
    assert config.probes.path == str(tmp_path / "probes.jsonl")


@pytest.mark.parametrize("name", ["base", "./base", "../here/base", "org/base"])
def test_a_model_of_the_working_directory_is_not_taken_for_one_of_the_files_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    here, there = tmp_path / "here", tmp_path / "elsewhere" / "there"
    there.mkdir(parents=True)
    (here / "org" / "base").mkdir(parents=True)
    (here / "base").mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(ConfigError) as caught:
        SearchConfig.from_toml(
            write(there, MINIMAL | {"models": MINIMAL["models"] | {"base": name}})
        )
    assert f"{name!r} is not at {there / name}" in str(caught.value)
    assert f"in the working directory, {here / name}" in str(caught.value)


def test_a_name_that_is_no_hub_id_is_a_path_from_the_files_folder(tmp_path: Path) -> None:
    for name in ("base", "./base", "../base", "a/b/c"):
        record = MINIMAL | {"models": MINIMAL["models"] | {"base": name}}
        assert SearchConfig.from_toml(write(tmp_path, record)).models.base == str(tmp_path / name)
    for name in ("org/base", "org/base@main", "~/base", "/a/base"):
        record = MINIMAL | {"models": MINIMAL["models"] | {"base": name}}
        assert SearchConfig.from_toml(write(tmp_path, record)).models.base == name


SERVERS = [
    "http://me:secret@host/v1",
    "https://secret@host:8000/v1",
    {"base": "http://host/v1", "a": "http://:secret@host/v1"},
    "http://host/v1?api_key=secret",
]


@pytest.mark.parametrize("url", SERVERS, ids=str)
def test_a_url_with_a_secret_is_refused_without_showing_it(url: object) -> None:
    with pytest.raises(ConfigError) as caught:
        SearchConfig.from_record(MINIMAL | {"engine": {"kind": "openai", "url": url}})
    assert "secret" not in str(caught.value)
    assert "name the environment variable that holds the key as engine.key" in str(caught.value)


def test_set_reaches_every_depth_and_reads_toml_values(tmp_path: Path) -> None:
    config = SearchConfig.from_toml(
        write(tmp_path, MINIMAL),
        ["search.trials=5", "merge.method=tsvm", "space.weight=[0.0, 2.0]", "seed = 11"],
    )
    assert config.search.trials == 5
    assert config.merge.method == "tsvm"
    assert config.space.weight == (0.0, 2.0)
    assert config.seed == 11


def test_judges_are_one_name_or_several_and_their_models_follow_the_file(tmp_path: Path) -> None:
    (tmp_path / "guard").mkdir()

    def judge(value: Any) -> Any:
        record = MINIMAL | {"probes": {"path": "probes.jsonl", "judge": value}}
        config = SearchConfig.from_toml(write(tmp_path, record))
        assert SearchConfig.from_record(config.record()) == config
        return config.probes.judge

    assert judge("phrases") == "phrases"
    assert judge("wildguard=guard") == f"wildguard={tmp_path / 'guard'}"
    assert judge(["phrases", "llama_guard+phrases=org/own"]) == (
        "phrases",
        "llama_guard+phrases=org/own",
    )
    assert judge("rubric=vllm:guard") == f"rubric=vllm:{tmp_path / 'guard'}"
    assert judge("wildguard=http://host:8000/v1#x") == "wildguard=http://host:8000/v1#x"


def test_objectives_have_one_order_whatever_the_file_says() -> None:
    record = MINIMAL | {"objectives": {"harmless": {}, "domain": {}}}
    assert SearchConfig.from_record(record).objective_names == ("domain", "harmless")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("probes.judge=wildgard", "no judge 'wildgard'; did you mean wildguard"),
        ("probes.judge=rubric", "'rubric' needs a model"),
        ("probes.judge=[]", "judge is missing: there is no default, because .* smoke tests"),
        ("probes.judge=llama_guard", r"'llama_guard' tells harm and no refusals; .*\+phrases"),
        ("probes.judge=qwen3guard", "needs a choice, .*qwen3guard:strict .*qwen3guard:loose"),
        ("probes.judge=wildguard=Qwen/Qwen3Guard-Gen-4B", "another format; write qwen3guard"),
        ("probes.heldout_judge=wildgard", "no judge 'wildgard'; did you mean wildguard"),
        ("probes.heldout_judge=phrases", "heldout_judge is phrases, which judge is already"),
        ("probes.unreadable_frac=2", "unreadable_frac"),
        ("search.trails=5", "unknown key 'search.trails'; did you mean trials"),
        ("searhc.trials=5", "unknown key 'searhc'; did you mean search"),
        ("probes.write.conts.domain=3", "unknown key 'probes.write.conts'; did you mean counts"),
        ("search.warm_start.step=3", "unknown key 'search.warm_start.step'; did you mean steps"),
        ("search.trials=0", r"search.trials: .*greater than or equal to 1, got 0"),
        ("search.sampler=tpee", r"search.sampler: unknown sampler 'tpee'; did you mean tpe\?"),
        ("search.sampler_options.seed=3", "sampler_options: the sampler's seed is made of `seed`"),
        ("search.stop.hours=0", "search.stop.hours: .*greater than 0"),
        ("search.stop.flat=0", "search.stop.flat: .*greater than or equal to 1"),
        ("search.stop.target.domain=90", "domain = 90 is no score.*90 % is 0.9"),
        ("search.stop.target.honest=0.9", "search.stop.target names 'honest', which is no objec"),
        ("space.weight=[1.5, 0.0]", r"the range \[1.5, 0.0\] runs downwards"),
        ("space.rank_ratio=[0.0, 1.0]", r"rank_ratio is \[0.0, 1.0\]; it must lie in \(0, 1\]"),
        ("space.places=layer", "unknown place profile 'layer'"),
        ("probes.heldout_frac=1.0", r"heldout_frac: .*less than 1, got 1.0"),
        ("objectives.skill={}", "objectives: unknown 'skill'"),
        ("limits.harmless.at_least=0.9", "'harmless' is an objective and a limit"),
        ("limits.honest.at_least='base ~ 1'", "cannot read the bound 'base ~ 1'"),
        ("limits.honest={}", "exactly one of at_least and at_most"),
        ("limits.honest.at_least=90", r"limits.honest: the bound 90 is no score.*5 % is 0.05"),
        ("limits.degenerate.at_most=-0.1", "the bound -0.1 is no score"),
        ("limits.general_refusal.at_most=5", "limits.general_refusal: the bound 5 is no score"),
        ("limits.divergence.at_most=-1", "limits.divergence: the bound -1 is no divergence.*nats"),
        ("limits.divergence.at_most='base ~ 1'", "cannot read the bound 'base ~ 1'"),
        ("objectives.divergence={}", "objectives: divergence is a limit only"),
        ("objectives.general_refusal={}", "objectives: general_refusal is a limit only"),
        ("objectives.general_degenerate={}", "general_degenerate is a limit only; write it under"),
        (
            "objectives.over_refusal.maximise=true",
            "every metric has one good direction; leave it out",
        ),
        ("merge.params.scale=0.9", r"the scale is searched.*space.scale = \[x, x\]"),
        ("space.weight=[0.0, inf]", "space.weight"),
        ("limits.honest.at_least=nan", "limits.honest"),
        ("models.sources=[{name='rank', path='a'}]", "source name 'rank' is used by safemerge"),
        ("models.sources=[{name='a', path='a'}, {name='a', path='b'}]", "'a' is used twice"),
        ("space.places=points(1)", r"'points\(1\)' needs at least two points; for one, use global"),
        ("space.places=kernels", r"unknown place profile 'kernels'.*also points\(k\) and kernel"),
        ("space={zero_prob=0.1, weight=[-0.5, 1.0]}", r"zero_prob is 0.1.*weights from 0 upwards"),
        ("space.prior.b=1.0", "space.prior names 'b'"),
        ("space.prior.a=2.0", r"prior.a is 2.0, outside of weight = \[0.0, 1.5\]"),
        ("space.per_source.density.range=[1, 0]", "runs downwards"),
        ("space.per_source.density.rnge=[0, 1]", "unknown key .*did you mean range"),
        ("space.outliers=['clip', 'clip']", "name each mode once"),
        ("merge.params.ties={normalize=true}", "is a table, which only several methods need"),
        ("merge={method=['ties','sce'], params={normalize=true}}", "is not a table of one of"),
        ("merge={method=['ties','ties']}", "name one or more, each once"),
        ("merge={method=['ties'], params={ties={scale=2}}}", "the scale is searched"),
        ("trials", "is not of the form a.b=value"),
        ("seed.deep=1", "'seed' is a value, not a section"),
        ("schema=2", "schema"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, override: str, message: str) -> None:
    path = write(
        tmp_path, MINIMAL | {"seed": 1, "probes": {"path": "p", "judge": "phrases", "write": WRITE}}
    )
    with pytest.raises(ConfigError, match=message):
        SearchConfig.from_toml(path, ["objectives={domain={}, harmless={}}", override])


WRITE = {"writers": {"domain": "a", "harmful": "a", "twin": "a", "unknowable": "a"}}


def test_four_objectives_are_refused() -> None:
    four = {key: {} for key in ("domain", "harmless", "helpful", "honest")}
    with pytest.raises(ConfigError, match=r"objectives has 4 entries.*one to three"):
        SearchConfig.from_record(MINIMAL | {"objectives": four})


def test_a_parameter_is_searched_or_fixed() -> None:
    both = {"merge": {"params": {"outliers": "clip"}}, "space": {"outliers": ["none", "clip"]}}
    with pytest.raises(ConfigError, match=r"params.outliers is 'clip', but space.outliers search"):
        SearchConfig.from_record(MINIMAL | both)


def test_cmaes_and_choices_do_not_go_together() -> None:
    for choice in (
        {"space": {"outliers": ["none", "clip"]}},
        {"merge": {"method": ["resm", "sce"]}},
    ):
        with pytest.raises(ConfigError, match=r"which searches numbers, and (outliers|method) is"):
            SearchConfig.from_record(MINIMAL | {"search": {"sampler": "cmaes"}} | choice)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no config file .*safemerge init"):
        SearchConfig.from_toml(tmp_path / "none.toml")


def test_a_file_that_is_not_toml_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[models\n")
    with pytest.raises(ConfigError, match=r"bad.toml is not valid TOML"):
        SearchConfig.from_toml(tmp_path / "bad.toml")


def test_the_template_names_every_method() -> None:
    template = (files("search.config") / "template.toml").read_text()
    named = set(re.findall(r"[a-z_]+", template))
    assert not (METHODS.keys() | STAGES.keys()) - named


def test_a_runs_own_record_may_have_keys_of_earlier_versions(tmp_path: Path) -> None:
    objectives = {"domain": {"maximise": True}, "harmless": {}}
    path = write(tmp_path, MINIMAL | {"objectives": objectives})
    assert list(SearchConfig.from_toml(path, of_run=True).objectives) == ["domain", "harmless"]
    with pytest.raises(ConfigError, match="key 'maximise' was removed, since every metric has one"):
        SearchConfig.from_toml(path)


def test_a_runs_own_record_may_have_keys_by_their_earlier_names(tmp_path: Path) -> None:
    warm = {"ring": 3, "noise": 0.1, "pull": 2.0}
    path = write(tmp_path, MINIMAL | {"space": {"off": 0.2}, "search": {"warm_start": warm}})
    config = SearchConfig.from_toml(path, of_run=True)
    started = config.search.warm_start
    found = (started.scalarizations, started.weight_noise_std, started.prior_l2)
    assert (config.space.zero_prob, *found) == (0.2, 3, 0.1, 2.0)
    with pytest.raises(ConfigError, match=r"key space\.off is called zero_prob now; rename it"):
        SearchConfig.from_toml(path)


def test_a_config_without_a_judge_is_told_which_to_choose(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL | {"probes": {"path": "probes.jsonl"}})
    with pytest.raises(ConfigError, match="judge is missing: there is no default") as said:
        SearchConfig.from_toml(path)
    assert '"qwen3guard:strict"' in str(said.value)
    assert "phrases" in str(said.value)
    chosen = SearchConfig.from_toml(path, ["probes.judge=phrases"])
    assert chosen.probes.judges == ("phrases",)


def test_a_runs_own_record_has_the_judges_that_it_had(tmp_path: Path) -> None:
    def judges(**section: Any) -> tuple[Any, Any]:
        path = write(tmp_path, MINIMAL | {"probes": {"path": "p", **section}})
        probes = SearchConfig.from_toml(path, of_run=True).probes
        return probes.judges, probes.heldout_judges

    assert judges() == (("phrases",), ())
    assert judges(judge="wildguard") == (("wildguard",), ())
    assert judges(heldout_judge="llama_guard") == (("phrases",), ("llama_guard+phrases",))
    both = judges(judge=["llama_guard=org/a", "phrases"])
    assert both == (("llama_guard+phrases=org/a", "phrases"), ())


def test_the_limits_on_retention_are_there_unless_the_file_has_its_own(tmp_path: Path) -> None:
    config = SearchConfig.from_toml(write(tmp_path, MINIMAL))
    assert {name: limit.bound for name, limit in config.limits.items()} == {
        "divergence": 1.0,
        "general_refusal": "base + 0.05",
        "general_degenerate": "base + 0.05",
    }
    own = MINIMAL | {"limits": {"divergence": {"at_most": 7.5}, "honest": {"at_least": 0.5}}}
    limits = SearchConfig.from_toml(write(tmp_path, own)).limits
    assert (limits["divergence"].bound, limits["honest"].bound) == (7.5, 0.5)
    assert limits["general_refusal"].bound == "base + 0.05"


def test_without_retention_there_are_no_limits_on_it(tmp_path: Path) -> None:
    off = MINIMAL | {"probes": {"path": "probes.jsonl", "judge": "phrases", "retention": "off"}}
    assert SearchConfig.from_toml(write(tmp_path, off)).limits == {}
    limited = off | {"limits": {"divergence": {"at_most": 1.0}}}
    with pytest.raises(ConfigError, match=r"limits.divergence is measured on general prompts.*off"):
        SearchConfig.from_toml(write(tmp_path, limited))


def test_a_file_of_general_prompts_is_beside_the_config(tmp_path: Path) -> None:
    for value, resolved in (
        ("builtin", "builtin"),
        ("off", "off"),
        ("mine.jsonl", str(tmp_path / "mine.jsonl")),
    ):
        section = {"path": "probes.jsonl", "judge": "phrases", "retention": value}
        record = MINIMAL | {"probes": section}
        config = SearchConfig.from_toml(write(tmp_path, record))
        assert config.probes.retention == resolved
        assert SearchConfig.from_toml(write(tmp_path, config.record())) == config


def test_a_run_from_before_retention_has_neither_it_nor_limits_on_it(tmp_path: Path) -> None:
    config = SearchConfig.from_toml(write(tmp_path, MINIMAL), of_run=True)
    assert (config.probes.retention, config.limits) == ("off", {})
    record = config.record()
    assert SearchConfig.from_toml(write(tmp_path, record), of_run=True) == config
