"""What fits a time: maps become coarser, then trainings shorter, then methods stay away, each with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deep_clustering.own_data.budget import Circumstances, in_words, plan_run
from deep_clustering.own_data.estimates import Clock, Estimate, Rows, _Timed, estimate
from deep_clustering.own_data.request import Request, parse_budget

ESTIMATES = {
    "dcan": Estimate(fixed=2, per_epoch=0.5, epochs=60),
    "neural_mixture": Estimate(fixed=3, per_epoch=1, epochs=80),
    "kmeans": Estimate(fixed=1),
    "ward": Estimate(fixed=30),
}
TIMED = _Timed(begin=1.0, step=0.5, row=0.01)


def plan(budget, refused=None, refitting=0.0, estimates=ESTIMATES):
    around = Circumstances(
        n_samples=4000, budget=budget, preparation=1, refitting=refitting, seconds_of_map=lambda points: points / 500
    )
    return plan_run(estimates, refused or {}, around)


def test_with_time_enough_nothing_is_cut():
    planned = plan(1000)
    assert planned.estimates == ESTIMATES
    assert (planned.map_points, planned.left_out) == (4000, {})


def test_shorter_trainings_are_cut_by_the_same_share():
    planned = plan(150)
    assert planned.seconds <= 150
    dcan, mixture = planned.estimates["dcan"].epochs, planned.estimates["neural_mixture"].epochs
    assert 8 < dcan < 60
    assert dcan / 60 == pytest.approx(mixture / 80, abs=0.02)
    assert not planned.left_out


def test_what_has_no_time_is_left_out_and_says_why():
    planned = plan(75)
    assert planned.seconds <= 75
    assert set(planned.left_out) == {"ward"}
    assert "about 30 s, for which there is no time" in planned.left_out["ward"]


def test_two_methods_stay_and_the_plan_says_that_it_takes_longer():
    planned = plan(5)
    assert set(planned.estimates) == {"dcan", "kmeans"}
    assert planned.estimates["dcan"].epochs == 8
    assert planned.seconds > 5


def test_what_does_not_suit_the_data_takes_no_part():
    assert plan(1000, refused={"ward": "too many rows"}).left_out == {"ward": "too many rows"}


def test_a_further_fit_of_the_longest_is_counted():
    assert plan(10**4, refitting=0.5).seconds == pytest.approx(plan(10**4).seconds + 0.5 * 83)


def test_six_methods_that_take_no_time_take_what_pages_and_scores_do():
    """A run of the 150 flowers of iris, whose fits and maps take seconds, was measured at 31 CPU seconds."""
    methods = ("dcan", "neural_mixture", "kmeans", "gmm", "ward", "tsne_gmm")
    nothing = {name: Estimate(fixed=0) for name in methods}
    around = Circumstances(n_samples=150, budget=120, preparation=0, refitting=0, seconds_of_map=lambda points: 0)
    assert 0.75 * 31 <= plan_run(nothing, {}, around).seconds <= 1.25 * 31


@given(budget=st.floats(1, 1000), more=st.floats(1, 5))
def test_more_time_never_gives_fewer_methods(budget, more):
    assert set(plan(budget).estimates) <= set(plan(more * budget).estimates)


@pytest.mark.parametrize(
    ("text", "seconds"), [("120", 120), ("90s", 90), ("2m", 120), ("1.5h", 5400), (" 2 M ", 120), ("0.5", 0.5)]
)
def test_a_time_has_a_unit_or_is_seconds(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-3", "two", "5 days", "2m30"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="--budget must be a time such as"):
        parse_budget(text)


def test_times_are_said_as_well_as_they_are_known():
    assert [in_words(s) for s in (0.2, 4.4, 72, 250, 8000)] == [
        "under 1 s",
        "about 4 s",
        "about 70 s",
        "about 4 minutes",
        "about 2 hours",
    ]


def test_drawings_have_more_time_unless_the_user_says_it(tmp_path):
    assert Request(name="x", images=tmp_path).seconds == 120
    assert Request(name="x", images=tmp_path, drawings=True).seconds == 600
    assert Request(name="x", images=tmp_path, drawings=True, budget="90s").seconds == 90


def test_starts_in_turn_take_as_long_as_one_after_the_other(parameters, monkeypatch):
    monkeypatch.setattr("deep_clustering.own_data.estimates._STEPS_TIME", 0.01)
    monkeypatch.setattr("deep_clustering.own_data.estimates._measure_steps", lambda options, rows: TIMED)
    rows = Rows(n_samples=60, row_shape=(1, 8, 8), density=None, n_clusters=3, n_neighbours=5)
    clock = Clock(rows)
    options = parameters["neural_mixture"]
    starts = options["start"]["starts"]
    one_by_one = [estimate({**options, "start": start, "restarts": 2}, rows, clock) for start in starts]
    together = estimate({**options, "start": {"kind": "in_turn", "starts": starts}, "restarts": 6}, rows, clock)
    assert together.seconds == pytest.approx(sum(one.seconds for one in one_by_one))
    plain = estimate({**options, "start": {"kind": "none"}, "restarts": 2}, rows, clock)
    # three trainings of DAC, each half as long again as the fit that they are before
    assert one_by_one[2].per_epoch == pytest.approx(plain.per_epoch * (1 + 3 * 1.5))


def test_steps_are_timed_on_as_many_rows_as_a_batch_has(parameters, monkeypatch):
    """A step of the 1,024 rows that are drawn else says little of one of 5,000."""
    seen = []

    def time_steps(training, data, batch_size):
        seen.append((len(data.rows), batch_size))
        return 0.1

    monkeypatch.setattr("deep_clustering.own_data.estimates._time_steps", time_steps)
    options = {
        **parameters["neural_mixture"],
        "encoder": {"kind": "mlp", "hidden": []},
        "views": {"kind": "neighbours"},
        "start": {"kind": "none"},
    }
    rows = Rows(n_samples=3000, row_shape=(8,), density=None, n_clusters=3, n_neighbours=5)
    for batch_size in (64, 2000, 5000):
        estimate({**options, "batch_size": batch_size}, rows, Clock(rows))
    assert seen == [(1024, 64), (2000, 2000), (3000, 5000)]
