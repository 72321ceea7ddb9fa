"""The sampler that blends points of the front: where it draws, and what it draws from."""

from __future__ import annotations

import numpy as np
import optuna
import pytest

from search.samplers.blend import FrontBlend


def study(points: list[tuple[float, float, str]], seed: int = 0) -> optuna.Study:
    """A study of y, z over x, choice with these trials finished: x, z, choice; y = x."""
    found = optuna.create_study(
        directions=["maximize", "maximize"], sampler=FrontBlend(seed=seed, n_startup_trials=2)
    )
    for x, z, option in points:
        found.enqueue_trial({"x": x, "scale": 1e-2, "choice": option})
        ask(found)
        found.tell(found.trials[-1].number, [x, z])
    return found


def ask(found: optuna.Study) -> dict[str, float | str]:
    trial = found.ask()
    trial.suggest_float("x", 0.0, 1.0)
    trial.suggest_float("scale", 1e-4, 1.0, log=True)
    trial.suggest_categorical("choice", ["a", "b", "c"])
    return trial.params


def draws(found: optuna.Study, count: int) -> list[dict[str, float | str]]:
    return [ask(found) for _ in range(count)]


def test_draws_lie_between_points_of_the_front_and_a_little_beyond() -> None:
    found = study([(0.2, 0.9, "a"), (0.8, 0.3, "b"), (0.1, 0.1, "c")])
    # The last one is dominated, but the front alone has fewer points than are blended.
    xs = np.array([float(draw["x"]) for draw in draws(found, 200)])
    assert xs.min() >= 0.0
    assert xs.max() <= 1.0
    assert ((xs > 0.3) & (xs < 0.7)).sum() > 40


def test_dominated_points_are_left_out_where_the_front_is_large() -> None:
    front = [(0.5 + 0.1 * i, 0.9 - 0.1 * i, "a") for i in range(5)]
    found = study([*front, *[(0.0, 0.0, "c")] * 5])
    drawn = draws(found, 100)
    assert min(float(draw["x"]) for draw in drawn) > 0.2


def test_draws_lie_between_points_within_the_limits_and_better_ones_that_break_them() -> None:
    found = study([])
    for x, broken in [(0.1, 0.0), (0.2, -1.0), (0.9, 0.5), (0.95, 0.5)]:
        found.enqueue_trial({"x": x, "scale": 1e-2, "choice": "a"})
        trial = found.ask()
        trial.suggest_float("x", 0.0, 1.0)
        trial.suggest_float("scale", 1e-4, 1.0, log=True)
        trial.suggest_categorical("choice", ["a", "b", "c"])
        trial.set_constraint("limit", broken)
        found.tell(trial, [x, x])
    xs = np.array([float(draw["x"]) for draw in draws(found, 200)])
    # The best of all is a second point at most: blends with it lie on the way there.
    assert (xs < 0.5).mean() > 0.3
    assert ((xs > 0.3) & (xs < 0.8)).mean() > 0.3


def test_the_same_seed_draws_the_same() -> None:
    points = [(0.2, 0.9, "a"), (0.8, 0.3, "b")]
    assert draws(study(points), 5) == draws(study(points), 5)
    assert draws(study(points), 5) != draws(study(points, seed=1), 5)


@pytest.mark.parametrize("value", [0.2, 0.5])
def test_equal_points_are_still_moved_by_the_noise(value: float) -> None:
    found = study([(value, 0.5, "a")] * 3)
    xs = {float(draw["x"]) for draw in draws(found, 20)}
    assert len(xs) == 20
    assert all(abs(x - value) < 0.1 for x in xs)


def test_choices_and_whole_numbers_that_no_point_has_are_drawn_too() -> None:
    found = optuna.create_study(
        directions=["maximize"], sampler=FrontBlend(seed=0, n_startup_trials=2)
    )

    def drawn() -> dict[str, float | str]:
        trial = found.ask()
        trial.suggest_float("x", 0.0, 1.0)
        trial.suggest_int("layer", 0, 5)
        trial.suggest_categorical("choice", ["a", "b", "c"])
        return trial.params

    for x in (0.5, 0.6):
        found.enqueue_trial({"x": x, "layer": 3, "choice": "a"})
        drawn()
        found.tell(found.trials[-1].number, x)
    points = [drawn() for _ in range(300)]
    for name, own, every in (("choice", "a", "abc"), ("layer", 3, range(6))):
        values = [point[name] for point in points]
        assert set(values) == set(every)
        assert values.count(own) > 250  # nine in ten, and what the tenth happens to draw
