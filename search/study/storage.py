"""Where a study is kept: a journal in the run directory (the default), SQLite or PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import optuna

from safemerge.errors import ConfigError, RunError, require
from search.config import SearchConfig
from search.runs.rundir import RunDir
from search.samplers.choose import make_sampler, optuna_directions
from search.samplers.quiet_optuna import quiet_optuna
from search.study.journal import Journal

_SQLITE_WAIT_S = 60.0  # for somebody else who looks at the database; workers take turns
_OWNER = "run"  # attribute of a study in a database: the folder of its run


def check_storage(storage: str) -> None:
    """Open the database that `search.storage` names, if it names one, before any work."""
    if storage != "journal":
        _open_database(storage)


def open_study(home: RunDir, config: SearchConfig, *, worker: int = 0) -> optuna.Study:
    """The run's study, made where there is none yet; every worker draws from a seed of its own."""
    url = config.search.storage
    with quiet_optuna():
        study = optuna.create_study(
            study_name=home.require("lock.json", dict).get("study", "search"),
            storage=_open_journal(home.journal) if url == "journal" else _open_database(url),
            load_if_exists=True,
            directions=optuna_directions(config.directions),
        )
        n_before = len(study.get_trials(deepcopy=False))
        study.sampler = make_sampler(config.search, config.seed, n_before=n_before, worker=worker)
    return study


def check_no_copy(home: RunDir, storage: str, study: optuna.Study) -> None:
    """Refuse a copy of a run whose study is in a database, which both folders would write to."""
    if storage == "journal":
        return  # a copy has its own
    here, owner = str(home.path.resolve()), study.user_attrs.get(_OWNER)
    if owner == here:
        return
    lock = None if owner is None else RunDir(owner).read("lock.json")
    if lock is not None and lock.get("study") == study.study_name:
        raise RunError(
            f"{home.path} is a copy of {owner}, and both have their trials in the study "
            f"{study.study_name!r} of {storage}; go on there, or start a new run "
            "with --run NAME"
        )
    study.set_user_attr(_OWNER, here)


def _open_journal(path: Path) -> optuna.storages.BaseStorage:
    return optuna.storages.JournalStorage(Journal(str(path)))


def _open_database(url: str) -> optuna.storages.BaseStorage:
    is_sqlite = url.startswith("sqlite")
    if not is_sqlite:
        require("psycopg", extra="postgresql")
    # The driver by name: which one a bare postgresql:// means differs between versions.
    named = url.replace("postgresql://", "postgresql+psycopg://", 1)
    options = {"connect_args": {"timeout": _SQLITE_WAIT_S}} if is_sqlite else {}
    try:
        with quiet_optuna():
            return optuna.storages.RDBStorage(named, engine_kwargs=options)
    # Whatever a driver raises: the place was named in the config, and it does not open.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"search.storage = {url!r} cannot be opened: {reason}") from error
