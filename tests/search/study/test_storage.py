"""Where a study is kept: a journal that heals, SQLite, a real PostgreSQL where there is one."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pytest

from safemerge.errors import ConfigError, MissingDependency, RunError
from search.config import SearchConfig
from search.metrics import ReferenceScores
from search.runs.rundir import RunDir
from search.study.context import StudyContext
from search.study.outcome import WORKER
from search.study.recovery import recover
from search.study.storage import check_storage, open_study
from search.study.study import run_search

Make = Callable[..., SearchConfig]


@pytest.fixture
def make(record: dict[str, Any]) -> Make:
    def config(**search: Any) -> SearchConfig:
        return SearchConfig.from_record(record | {"search": record["search"] | search})

    return config


def begun(home: RunDir, config: SearchConfig) -> optuna.Study:
    """A study of a run that is not prepared any further."""
    home.write("lock.json", {"study": "search"})
    return open_study(home, config)


def test_a_torn_line_of_the_journal_is_cut_off(make: Make, tmp_path: Path) -> None:
    home, config = RunDir(tmp_path), make()
    begun(home, config).ask()
    whole = home.journal.read_bytes()
    for torn in (b'{"op_code":4,"worker_', b"x" * 70_000):
        home.journal.write_bytes(whole + torn)
        study = begun(home, config)
        assert len(study.get_trials()) == 1
        study.set_user_attr("next", True)
        assert home.journal.read_bytes().startswith(whole + b'{"op_code"')
        assert begun(home, config).user_attrs == {"next": True}


def test_parameters_are_read_by_another_as_they_were_set(make: Make, tmp_path: Path) -> None:
    home, config = RunDir(tmp_path), make()
    ours, theirs = begun(home, config), begun(home, config)
    for study, other in ((ours, theirs), (theirs, ours), (ours, theirs)):
        trial = study.ask()
        drawn = {name: trial.suggest_float(name, 0.0, 1.0) for name in "xyz"}
        assert study.get_trials()[-1].params == drawn
        assert other.get_trials()[-1].params == drawn
        study.tell(trial, [0.5, 0.5])
    for study in (ours, theirs, begun(home, config)):
        assert study.get_trials() == ours.get_trials()
        assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE"] * 3


def test_lines_that_another_adds_meanwhile_are_read_too(make: Make, tmp_path: Path) -> None:
    home, config = RunDir(tmp_path), make()
    ours, theirs = begun(home, config), begun(home, config)
    trial = ours.ask()
    x = trial.suggest_float("x", 0.0, 1.0)
    theirs.set_user_attr("met", "in between")
    y = trial.suggest_float("y", 0.0, 1.0)
    trial.set_user_attr("drawn", True)
    theirs.set_user_attr("met", "after")
    for study in (ours, theirs, begun(home, config)):
        assert study.user_attrs == {"met": "after"}
        (found,) = study.get_trials()
        assert found.params == {"x": x, "y": y}
        assert found.user_attrs == {"drawn": True}


def test_lines_that_another_adds_while_a_draw_is_under_way_are_read_too(
    make: Make, tmp_path: Path
) -> None:
    """As where a trial's draw fails half way, and another worker has its turn."""
    home, config = RunDir(tmp_path), make()
    ours, theirs = begun(home, config), begun(home, config)
    trial = ours.ask()
    x = trial.suggest_float("x", 0.0, 1.0)
    other = theirs.ask()
    theirs.set_user_attr("met", "in between")
    trial.set_user_attr("drawn", False)
    assert ours.ask().number == 2
    for study in (ours, theirs, begun(home, config)):
        assert study.user_attrs == {"met": "in between"}
        found = study.get_trials()
        assert [one.params for one in found] == [{"x": x}, {}, {}]
        assert found[0].user_attrs == {"drawn": False}
    ours.tell(trial, state=optuna.trial.TrialState.FAIL)
    theirs.tell(other, [0.5, 0.5])
    assert [one.state.name for one in ours.get_trials()] == ["FAIL", "COMPLETE", "RUNNING"]


def test_only_what_a_dead_worker_left_is_settled(make: Make, tmp_path: Path) -> None:
    home, config = RunDir(tmp_path), make()
    study = begun(home, config)
    for worker in (0, 1, None):
        trial = study.ask()
        trial.suggest_float("x", 0.0, 1.0)
        if worker is not None:
            trial.set_user_attr(WORKER, worker)
    context = StudyContext.of(home, study, config, ReferenceScores({}, {}))
    recover(context, worker=1)
    states = [trial.state.name for trial in study.get_trials()]
    assert states == ["RUNNING", "FAIL", "FAIL", "WAITING", "WAITING"]
    again = [trial.system_attrs["fixed_params"] for trial in study.get_trials()[3:]]
    assert again == [trial.params for trial in study.get_trials()[1:3]]
    recover(context, worker=1)
    assert len(study.get_trials()) == 5


def test_a_database_is_kept_beside_the_config_and_holds_several_runs(
    make: Make, tmp_path: Path
) -> None:
    config = make(trials=2, storage="sqlite:///study.db").resolved(tmp_path)
    run_search(config, tmp_path / "one")
    run_search(config, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other", "study.db"]
    assert not (tmp_path / "one/study.journal").exists()
    more = make(trials=3, storage="sqlite:///study.db").resolved(tmp_path)
    assert len(run_search(more, tmp_path / "one").candidates) == 3
    assert len(optuna.get_all_study_names(config.search.storage)) == 2


def test_a_copy_of_a_run_in_a_database_is_refused_and_a_moved_one_goes_on(
    make: Make, tmp_path: Path
) -> None:
    config, more = (make(trials=n, storage="sqlite:///study.db").resolved(tmp_path) for n in (2, 3))
    run_search(config, tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    with pytest.raises(RunError, match=r"copy is a copy of .*one, and both .*--run NAME"):
        run_search(more, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy")
    (tmp_path / "one").rename(tmp_path / "moved")
    assert len(run_search(more, tmp_path / "moved").candidates) == 3


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("jurnal", "unknown storage 'jurnal'; write journal, sqlite:///study.db or postgres"),
        ("mysql://me@host/name", "unknown storage 'mysql://me@host/name'"),
        ("sqlite:///", "unknown storage 'sqlite:///'"),
        ("postgresql://me:secret@host/name", r"a password.*~/.pgpass"),
        ("postgres://me:secret@host/name", "a password"),
        ("postgresql://host/name?user=me&password=secret", "a password"),
    ],
)
def test_a_storage_that_cannot_be_meant_is_refused(make: Make, storage: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        make(storage=storage)
    assert "secret" not in str(error.value)


def test_a_database_that_does_not_open_is_refused_before_any_work(
    make: Make, tmp_path: Path
) -> None:
    config = make(storage=f"sqlite:///{tmp_path}/missing/study.db")
    with pytest.raises(ConfigError, match=r"missing/study.db' cannot be opened: .*unable to open"):
        run_search(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_missing_driver_is_named_with_its_install_line(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(MissingDependency, match=r"psycopg.*safemerge\[postgresql\]"):
        check_storage("postgresql://me@host/name")


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URL of a server of our own, which listens on a socket only.

    The server refuses to run as root, so root starts it as the user postgres.
    """
    if find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed; `make test` installs it")
    found = shutil.which("initdb") or next(
        (str(path) for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")), None
    )
    if found is None:
        pytest.skip("PostgreSQL is not installed; .ci/run installs it, as root")
    programs = Path(found).resolve().parent
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a socket's path must be short
    data = folder / "data"
    if user is not None:
        shutil.chown(folder, user)

    def call(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, *arguments],
            user=user,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    try:
        call("initdb", "-D", str(data), "-U", "me", "--auth", "trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        call("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://me@/postgres?host={folder}"
        finally:
            call("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def test_a_search_is_kept_in_postgresql_and_goes_on(
    make: Make, postgresql: str, tmp_path: Path
) -> None:
    first = run_search(make(trials=2, storage=postgresql), tmp_path / "run")
    more = run_search(make(trials=4, storage=postgresql), tmp_path / "run")
    assert len(more.candidates) == 4
    # Their estimated rates may differ, since more trials have answered.
    found, before = ([(c.recipe, c.scores) for c in r.candidates] for r in (more, first))
    assert found[:2] == before
    with pytest.raises(ConfigError, match=r"no_such' cannot be opened|does not exist"):
        check_storage(postgresql.replace("/postgres?", "/no_such?"))
