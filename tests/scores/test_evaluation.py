"""The scores of a run: which are given with and without ground truth, and that all of them are plain values."""

import json
import logging

import numpy as np
import pytest

from deep_clustering.data.sources import ASSIGNED, FITTED
from deep_clustering.scores import metrics
from deep_clustering.scores.evaluation import score_clustering

OPTIONS = {"silhouette_samples": 1000}
NAMES = ["a", "b", "c"]


def representation_of(latent: np.ndarray, assignments: np.ndarray, n_clusters: int) -> dict[str, np.ndarray]:
    return {"latent": latent, "responsibilities": np.eye(n_clusters, dtype=np.float32)[assignments]}


def history_of(snapshots: list[np.ndarray], **columns: list[float]) -> dict[str, np.ndarray]:
    n_epochs = max((len(column) for column in columns.values()), default=0)
    return {
        "epoch": np.arange(1, n_epochs + 1, dtype=np.float64),
        "snapshot_epoch": np.arange(len(snapshots)),
        "snapshot_assignments": np.array(snapshots, dtype=np.int16),
        **{name: np.array(column) for name, column in columns.items()},
    }


def card(n_classes: int | None = 3) -> dict:
    return {"n_classes": n_classes, "class_names": NAMES[:n_classes] if n_classes else None}


@pytest.fixture
def run(blobs, blob_labels):
    """Arguments of a run whose clusters are the classes under other names, with five rows in the wrong one."""
    assignments = np.array([2, 0, 1])[blob_labels]
    assignments[:5] = (assignments[:5] + 1) % 3
    snapshots = [np.zeros_like(assignments), np.array([1, 2, 0])[blob_labels], assignments]
    history = history_of(snapshots, log_likelihood=[0.1, 0.7], agreement=[0.5, 0.9], loss=[2.0, 1.0])
    return {
        "assignments": assignments,
        "representation": representation_of(blobs, assignments, 3),
        "history": history,
        "labels": blob_labels,
        "split": np.full(120, FITTED | ASSIGNED, dtype=np.uint8),
        "data_card": card(),
        "options": OPTIONS,
    }


def test_scores_with_ground_truth_are_those_of_the_metrics(run, blobs, blob_labels):
    scores = score_clustering(**run)
    values, counts = scores["metrics"], np.bincount(run["assignments"], minlength=3)
    assert values["acc"] == pytest.approx(115 / 120)
    expected = metrics.labelled_scores(run["assignments"], blob_labels, 3, 3)
    assert {name: values[name] for name in expected} == expected
    assert values["balance"] == metrics.balance(counts)
    assert values["largest_share"] == counts.max() / 120
    assert values["n_occupied"] == 3
    assert values["silhouette"] == metrics.silhouette(blobs, run["assignments"], 1000, 0)
    assert values["stability"] == pytest.approx(115 / 120)
    assert values["log_likelihood"] == 0.7
    assert values["agreement"] == 0.9
    assert "loss" not in values
    assert (scores["n_samples"], scores["n_clusters"]) == (120, 3)
    assert scores["occupancy"] == counts.tolist()
    assert scores["collapsed"] is False
    assert scores["warnings"] == []


def test_contingency_names_the_matched_classes(run, blob_labels):
    contingency = score_clustering(**run)["contingency"]
    assert contingency["class_names"] == NAMES
    assert contingency["matched_class"] == [1, 2, 0]  # the inverse of the renaming
    assert np.sum(contingency["counts"]) == 120
    np.testing.assert_array_equal(np.sum(contingency["counts"], axis=0), np.bincount(blob_labels))


def test_curves_follow_the_snapshots_and_the_epochs(run):
    curves = score_clustering(**run)["curves"]
    assert curves["history"] == {
        "epoch": [1, 2],
        "log_likelihood": [0.1, 0.7],
        "agreement": [0.5, 0.9],
        "loss": [2.0, 1.0],
    }
    snapshots = curves["snapshots"]
    assert snapshots["epoch"] == [0, 1, 2]
    assert snapshots["n_occupied"] == [1, 3, 3]
    assert snapshots["acc"] == pytest.approx([40 / 120, 1, 115 / 120])
    assert snapshots["churn"] == pytest.approx([0, 80 / 120, 5 / 120])
    assert len(snapshots["nmi"]) == len(snapshots["ari"]) == 3


def test_everything_is_plain_json(run):
    scores = score_clustering(**run)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_without_ground_truth_only_the_label_free_scores_are_given(run):
    unknown = np.full(120, -1)
    scores = score_clustering(**run | {"labels": unknown, "data_card": card(None)})
    assert scores["contingency"] is None
    with_labels = score_clustering(**run)["metrics"]
    label_free = set(with_labels) - {"acc", "nmi", "ari", "purity"}
    assert scores["metrics"] == {name: with_labels[name] for name in label_free}
    assert set(scores["curves"]["snapshots"]) == {"epoch", "n_occupied", "churn"}


def test_unknown_samples_count_only_in_the_label_free_scores(run, blob_labels):
    known = np.arange(120) >= 5  # exactly the rows in the wrong cluster are unknown
    scores = score_clustering(**run | {"labels": np.where(known, blob_labels, -1)})
    assert scores["metrics"]["acc"] == 1
    assert np.sum(scores["contingency"]["counts"]) == 115
    assert sum(scores["occupancy"]) == 120
    assert scores["metrics"]["balance"] == score_clustering(**run)["metrics"]["balance"]


def test_final_scores_are_of_the_assigned_rows_and_curves_of_the_fitted(run, blobs, blob_labels):
    """The first 100 rows are fitted, the last 60 assigned; the five wrong rows are fitted only."""
    split = np.zeros(120, dtype=np.uint8)
    split[:100] |= FITTED
    split[60:] |= ASSIGNED
    history = run["history"] | {"snapshot_assignments": run["history"]["snapshot_assignments"][:, :100]}
    scores = score_clustering(**run | {"split": split, "history": history})
    assert scores["n_samples"] == sum(scores["occupancy"]) == np.sum(scores["contingency"]["counts"]) == 60
    assert scores["metrics"]["acc"] == 1
    np.testing.assert_array_equal(scores["occupancy"], np.bincount(run["assignments"][60:], minlength=3))
    assert scores["metrics"]["silhouette"] == metrics.silhouette(blobs[60:], run["assignments"][60:], 1000, 0)
    assert scores["metrics"]["stability"] == pytest.approx(95 / 100)
    first = metrics.labelled_scores(np.zeros(100, dtype=int), blob_labels[:100], 3, 3)["acc"]
    assert scores["curves"]["snapshots"]["acc"] == pytest.approx([first, 1, 95 / 100])


def test_collapse_is_reported_and_logged(run, blobs, caplog):
    zeros = np.zeros(120, dtype=np.int64)
    with caplog.at_level(logging.WARNING):
        scores = score_clustering(**run | {"assignments": zeros, "representation": representation_of(blobs, zeros, 3)})
    assert scores["collapsed"] is True
    assert len(scores["warnings"]) == 1
    assert "only 1 of 3 clusters are occupied" in caplog.text
    assert "[120, 0, 0]" in caplog.text
    assert "silhouette" not in scores["metrics"]
    assert scores["metrics"]["balance"] == 0


@pytest.mark.parametrize(("information", "collapsed"), [(0.02, False), (0.001, True)])
def test_clusters_that_explain_no_more_than_chance_count_as_collapsed(run, information, collapsed):
    history = run["history"] | {"final_view_information": np.array(information)}
    assert score_clustering(**run | {"history": history})["collapsed"] is False  # nothing to compare it with
    history |= {"final_chance_information": np.array(0.003)}
    assert score_clustering(**run | {"history": history})["collapsed"] is collapsed


def test_a_method_without_epochs_has_no_curves_and_no_stability(run):
    history = {
        "epoch": np.zeros(0),
        "snapshot_epoch": np.zeros(0, dtype=np.int64),
        "snapshot_assignments": np.zeros((0, 0), dtype=np.int16),
    }
    scores = score_clustering(**run | {"history": history})
    assert "stability" not in scores["metrics"]
    assert scores["curves"] == {"history": {"epoch": []}, "snapshots": {"epoch": [], "n_occupied": [], "churn": []}}


def test_more_clusters_than_classes(run, blobs, blob_labels):
    assignments = np.arange(120) % 2 + 2 * blob_labels
    changes = {"assignments": assignments, "representation": representation_of(blobs, assignments, 6)}
    scores = score_clustering(**run | changes | {"history": history_of([assignments])})
    assert scores["metrics"]["purity"] == 1
    assert scores["contingency"]["matched_class"].count(-1) == 3


@pytest.fixture
def soft(run):
    """The run with soft responsibilities: .9 for the own cluster, 0.6 in the first sixty rows."""
    certain = np.where(np.arange(120) < 60, 0.6, 0.9)[:, None]
    own = run["representation"]["responsibilities"] == 1
    responsibilities = np.where(own, certain, (1 - certain) / 2).astype(np.float32)
    return run | {"representation": run["representation"] | {"responsibilities": responsibilities}}


def test_calibration_of_soft_responsibilities(soft):
    """The five wrong rows are among the sixty of confidence .6: gaps of 55/60 - .6 and 1 - .9, equally heavy."""
    scores = score_clustering(**soft)
    assert scores["metrics"]["ece"] == pytest.approx(((55 / 60 - 0.6) + 0.1) / 2)
    table = scores["reliability"]
    assert table["edges"] == pytest.approx([b / 15 for b in range(16)])
    occupied = {b: count for b, count in enumerate(table["counts"]) if count}
    assert occupied == {9: 60, 13: 60}  # (.6, .667], as .6 is above itself in single precision, and (.867, .933]
    assert (table["accuracy"][9], table["accuracy"][13]) == pytest.approx((55 / 60, 1))
    assert (table["confidence"][9], table["confidence"][13]) == pytest.approx((0.6, 0.9))
    assert table["accuracy"][0] is table["confidence"][0] is None
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_calibration_is_of_the_rows_that_are_assigned_and_labelled(soft, blob_labels):
    split = np.where(np.arange(120) < 100, FITTED | ASSIGNED, FITTED).astype(np.uint8)
    labels = np.where(np.arange(120) >= 60, blob_labels, -1)
    scores = score_clustering(**soft | {"split": split, "labels": labels})
    assert sum(scores["reliability"]["counts"]) == 40
    assert scores["metrics"]["ece"] == pytest.approx(0.1)


@pytest.mark.parametrize("what", ["hard", "no labels"])
def test_no_calibration_of_hard_clusterings_or_without_labels(run, soft, what):
    changes = run if what == "hard" else soft | {"labels": np.full(120, -1), "data_card": card(None)}
    scores = score_clustering(**changes)
    assert scores["reliability"] is None
    assert "ece" not in scores["metrics"]


def with_range(run, blob_labels):
    """The run, with candidates of two, three and five clusters of which that of three was kept."""
    two, three, five = np.minimum(blob_labels, 1), run["assignments"], np.where(np.arange(120) % 2, blob_labels, 4)
    history = history_of([two, five, three], log_likelihood=[0.1, 0.7]) | {
        "candidate_assignments": np.array([two, three, five], dtype=np.int16),
        "candidate_scores": np.array([0.2, 0.6, 0.3]),
        "selection_n_clusters": np.array([2.0, 3.0, 5.0]),
        "selection_log_likelihood": np.array([0.2, 0.7, 0.5]),
        "selection_log_likelihood_deviation": np.array([0.01, 0.01, 0.01]),
        "selection_bound": np.log([2.0, 3.0, 5.0]),
        "selection_probability": np.array([0.0, 0.96, 0.04]),
        "final_log_likelihood": np.array(0.7),
        "final_log_likelihood_share": np.array(0.6),
    }
    return run | {"history": history}


def test_a_selection_is_scored_with_candidates_and_snapshots_of_other_numbers(run, blob_labels):
    arguments = with_range(run, blob_labels)
    scores = score_clustering(**arguments)
    assert (scores["n_clusters"], len(scores["occupancy"])) == (3, 3)
    selection = scores["selection"]
    assert (selection["suggested"], selection["interval"]) == (3, [3, 3])
    assert (selection["n_classes"], selection["difference"]) == (3, 0)
    values = scores["metrics"]
    assert (values["n_clusters_suggested"], values["n_clusters_probability"], values["n_clusters_off"]) == (3, 0.96, 0)
    assert (values["log_likelihood"], values["log_likelihood_share"]) == (0.7, 0.6)
    snapshots = scores["curves"]["snapshots"]
    assert snapshots["n_occupied"] == [2, 4, 3]
    expected = metrics.labelled_scores(arguments["history"]["snapshot_assignments"][1], blob_labels, 5, 3)["acc"]
    assert snapshots["acc"][1] == expected
    assert values["stability"] == pytest.approx(1 - snapshots["churn"][2])
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_oracle_gap_among_candidates_by_hand(run, blob_labels):
    """Two classes in one cluster: 80 of 120 right; the kept one 115; the truth under other names 120."""
    two, kept, truth = np.minimum(blob_labels, 1), run["assignments"], np.array([4, 1, 3])[blob_labels]
    history = run["history"] | {
        "candidate_assignments": np.array([two, kept, truth], dtype=np.int16),
        "candidate_scores": np.array([0.1, 0.5, 0.4]),
    }
    values = score_clustering(**run | {"history": history})["metrics"]
    assert values["oracle_gap"] == pytest.approx(5 / 120)
    assert values["candidate_acc_mean"] == pytest.approx((80 + 115 + 120) / 360)
    best = history | {"candidate_scores": np.array([0.1, 0.4, 0.5])}
    assert score_clustering(**run | {"history": best})["metrics"]["oracle_gap"] == 0


@pytest.fixture
def chosen(run, blob_labels):
    """The run as the best of three candidates: two classes in one cluster, what was kept, and a failure."""
    two, kept, failed = np.minimum(blob_labels, 1), run["assignments"], np.zeros(120, dtype=int)
    history = run["history"] | {
        "candidate_assignments": np.array([two, kept, failed], dtype=np.int16),
        "candidate_scores": np.array([0.1, 0.5, -np.inf]),
        "candidate_origins": np.array("best head\nconsensus\nkmeans"),
    }
    return run | {"history": history}


def test_candidates_are_told_with_origin_score_and_accuracy(chosen):
    scores = score_clustering(**chosen)
    assert scores["candidates"] == [
        {"origin": "best head", "score": 0.1, "is_chosen": False, "acc": pytest.approx(80 / 120)},
        {"origin": "consensus", "score": 0.5, "is_chosen": True, "acc": pytest.approx(115 / 120)},
        {"origin": "kmeans", "score": None, "is_chosen": False, "acc": pytest.approx(40 / 120)},
    ]
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_candidates_without_ground_truth_have_no_accuracy(chosen):
    unknown = np.full(120, -1)
    scores = score_clustering(**chosen | {"labels": unknown, "data_card": card(None)})
    assert [candidate["acc"] for candidate in scores["candidates"]] == [None, None, None]
    assert [candidate["score"] for candidate in scores["candidates"]] == [0.1, 0.5, None]
    assert not {"oracle_gap", "candidate_acc_mean"} & set(scores["metrics"])


def test_candidates_of_unlabelled_rows_have_no_accuracy_although_the_assigned_rows_have(chosen, blob_labels):
    """Fitted on rows without labels, scored on others: there is nothing that an oracle could have chosen by."""
    fitted = np.arange(120) < 60
    history = chosen["history"]
    history = history | {name: history[name][:, :60] for name in ("snapshot_assignments", "candidate_assignments")}
    changes = {
        "history": history,
        "labels": np.where(fitted, -1, blob_labels),
        "split": np.where(fitted, FITTED, ASSIGNED).astype(np.uint8),
    }
    scores = score_clustering(**chosen | changes)
    assert scores["metrics"]["acc"] == 1
    assert [candidate["acc"] for candidate in scores["candidates"]] == [None, None, None]
    assert "oracle_gap" not in scores["metrics"]


def test_candidates_without_origins_have_empty_ones(chosen):
    del chosen["history"]["candidate_origins"]
    assert [candidate["origin"] for candidate in score_clustering(**chosen)["candidates"]] == ["", "", ""]


def test_a_single_candidate_is_none(run):
    assert score_clustering(**run)["candidates"] == []
    one = {"candidate_assignments": run["assignments"][None].astype(np.int16), "candidate_scores": np.array([0.5])}
    assert score_clustering(**run | {"history": run["history"] | one})["candidates"] == []


def test_one_number_of_clusters_has_no_selection_and_no_oracle_gap(run):
    scores = score_clustering(**run)
    assert scores["selection"] is None
    assert not {"oracle_gap", "n_clusters_suggested"} & set(scores["metrics"])


def test_inputs_are_untouched(run):
    copies = run["assignments"].copy(), run["labels"].copy(), run["history"]["snapshot_assignments"].copy()
    score_clustering(**run)
    np.testing.assert_array_equal(run["assignments"], copies[0])
    np.testing.assert_array_equal(run["labels"], copies[1])
    np.testing.assert_array_equal(run["history"]["snapshot_assignments"], copies[2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"silhouette_samples": 5}}, "evaluation: silhouette_samples must be at least 10, got 5"),
        ({"options": {}}, "evaluation: missing option 'silhouette_samples'"),
        ({"labels": np.zeros(3, dtype=int)}, "evaluation: expected one label for each of the 120 rows, got 3"),
        ({"labels": np.zeros(120)}, "evaluation: labels must be integers .* got float64"),
        ({"labels": np.full(120, 3)}, r"labels: expected values in 0\.\.2, got 3\.\.3"),
        ({"assignments": np.full(120, 3)}, r"assignments: expected values in 0\.\.2, got 3\.\.3"),
    ],
)
def test_what_does_not_fit_is_refused(run, changes, message):
    with pytest.raises(ValueError, match=message):
        score_clustering(**run | changes)
