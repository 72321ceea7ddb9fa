"""The time of a search is what it does, times how long each of it takes."""

from dataclasses import replace

import pytest

from search.config import SearchConfig
from search.doctor.rates import Timings
from search.doctor.times import search_times
from search.doctor.work import SENTINEL_TOKENS, Asked, Work, count_work
from search.runs.workbench import open_workbench

RATES = Timings(
    load_s=3.0,
    prepare_s=5.0,
    prepare_plain_s=1.0,
    apply_s=0.5,
    token_s=0.01,
    prefill_token_s=0.02,
    step_s=0.1,
    row_s=0.001,
    reply_tokens=None,
    divergence_s=0.3,
    judge_s=0.004,
    projection_s=0.2,
    recomputes=False,
)
SENTINELS = Asked(prompts=10, chat_tokens=500, chat_calls=1)
WORK = Work(
    models=4,
    trials=20,
    steps=6,
    groups=8,
    answered=5,
    points=3,
    plain=2,
    grid=15,
    reply_tokens=24,
    search=Asked(prompts=40, score_tokens=4000, chat_tokens=2000, chat_calls=1),
    validation=Asked(prompts=20, score_tokens=2000, chat_tokens=1000, chat_calls=1),
    heldout=Asked(prompts=60, score_tokens=6000, chat_tokens=3000, chat_calls=2),
    general=Asked(prompts=32, chat_tokens=1600, chat_calls=1),
    sentinels=SENTINELS,
    stepped=Asked(prompts=30, score_tokens=3000),
)


def test_a_trial_is_a_merge_a_likelihood_sentinels_and_a_divergence() -> None:
    sentinels = 0.02 * 500 + SENTINEL_TOKENS * (0.1 + 10 * 0.001)
    expected = 0.5 + 0.01 * 4000 + sentinels + 32 * 0.3
    assert search_times(WORK, RATES).trial == pytest.approx(expected)


def test_a_step_is_three_passes_a_projection_a_group_and_the_validation_probes() -> None:
    expected = 0.5 + 8 * 0.2 + 0.01 * (3 * 3000 + 2000)
    assert search_times(WORK, RATES).step == pytest.approx(expected)
    again = search_times(WORK, replace(RATES, recomputes=True)).step
    assert again == pytest.approx(expected + 0.01 * 3000)


def test_the_whole_grows_with_trials_and_workers_share_them() -> None:
    one, two = search_times(WORK, RATES), search_times(replace(WORK, trials=40), RATES)
    assert two.total - one.total == pytest.approx(20 * one.trial)
    assert search_times(WORK, RATES, workers=4).trials == pytest.approx(one.trials / 4)


def test_replies_that_end_soon_take_fewer_steps() -> None:
    long, short = search_times(WORK, RATES), search_times(WORK, replace(RATES, reply_tokens=4))
    assert short.answers < long.answers
    assert short.trial == long.trial


def test_what_is_not_wanted_takes_no_time() -> None:
    bare = replace(WORK, steps=0, answered=0, heldout=Asked())
    times = search_times(bare, RATES)
    assert (times.warm_start, times.answers, times.heldout) == (0.0, 0.0, 0.0)


def test_work_is_counted_as_the_search_will_do_it(config: SearchConfig) -> None:
    bench = open_workbench(config)
    work = count_work(config, bench.engine, bench.probes, bench.general)
    search = bench.evaluator.probes
    assert work.search.prompts == len({probe.prompt for probe in search})
    assert work.models == 4
    assert (work.trials, work.answered, work.points) == (4, 4, 2)
    assert work.steps == 0
    pairs = [(probe.prompt, probe.answer) for probe in search]
    answers = sum(batch.input_ids.numel() for batch in bench.engine.encode(pairs))
    refusals = sum(probe.axis == "helpful" for probe in search)
    assert answers < work.search.score_tokens
    assert refusals > 0
    assert work.search.largest.score_tokens <= work.search.score_tokens
    assert work.search.largest.chat_tokens > work.search.largest.prompt_tokens
