import base64
import io
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from deep_clustering.pipelines.reporting.nodes import project
from deep_clustering.reporting import projection
from deep_clustering.reporting.comparison import write_comparison
from deep_clustering.reporting.members import select_members
from deep_clustering.reporting.page import write_report
from deep_clustering.reporting.panels import reference_level
from deep_clustering.reporting.projection import project_latent
from deep_clustering.reporting.shared_map import draw_shared_map
from deep_clustering.reporting.texts import METRICS, describe_curve, describe_metric
from deep_clustering.scores.certainty import Certainty, certainty_of

ATTACK = "<script>alert('x')</script>"


def one_hot(assignments, n_clusters):
    return np.eye(n_clusters, dtype=np.float32)[assignments]


def certainty_from(assignments, responsibilities, samples):
    """Certainties of responsibilities, with the samples as latent."""
    latent = np.reshape(samples, (len(assignments), -1)) if isinstance(samples, np.ndarray) else samples.toarray()
    return certainty_of(assignments, {"responsibilities": responsibilities, "latent": latent})


def scores_of(assignments, labels, n_clusters, *, epochs=3, names=None, **changes):
    """Scores as the evaluation stores them, of a run whose cluster k is matched with class k."""
    occupancy = np.bincount(assignments, minlength=n_clusters)
    epoch = list(range(1, epochs + 1))
    snapshots = {"epoch": epoch, "n_occupied": [n_clusters] * epochs, "churn": [0.1] * epochs}
    scores = {
        "method": "kmeans",
        "data_set": "blobs",
        "seed": 7,
        "protocol": "train",
        "n_samples": len(assignments),
        "n_clusters": n_clusters,
        "data_sha256": "ab" * 32,
        "metrics": {"n_occupied": int((occupancy > 0).sum()), "silhouette": 0.25},
        "collapsed": False,
        "warnings": [],
        "occupancy": occupancy.tolist(),
        "contingency": None,
        "curves": {"history": {"epoch": epoch, "loss": [0.5] * epochs}, "snapshots": snapshots},
    }
    if (labels >= 0).any():
        n_classes = int(labels.max()) + 1
        counts = np.zeros((n_clusters, n_classes), dtype=int)
        np.add.at(counts, (assignments, labels), 1)
        matched = [k if k < n_classes and occupancy[k] else -1 for k in range(n_clusters)]
        names = names or [f"class {c}" for c in range(n_classes)]
        scores["contingency"] = {"counts": counts.tolist(), "class_names": names, "matched_class": matched}
        scores["metrics"]["acc"] = 0.5
        snapshots |= {"acc": [0.5] * epochs, "nmi": [0.4] * epochs, "ari": [0.3] * epochs}
    return scores | changes


def report_of(
    assignments,
    labels,
    n_clusters,
    *,
    samples=None,
    card=None,
    options=None,
    cluster_names=None,
    siblings=(),
    **changes,
):
    """Page about a run on `samples`, by default points in a plane."""
    if samples is None:
        samples = np.random.default_rng(0).normal(size=(len(assignments), 2)).astype(np.float32)
    parts = {
        "assignments": assignments,
        "certainty": certainty_from(assignments, one_hot(assignments, n_clusters), samples),
        "samples": samples,
    }
    data_card = {
        "name": "blobs",
        "source": "drawn at random",
        "licence": "CC0",
        "n_samples": len(assignments),
        "shape": list(samples.shape[1:]),
        "dtype": str(samples.dtype),
        "value_range": [float(samples.min()), float(samples.max())],
        "n_classes": None,
        "class_names": None,
        "class_counts": None,
        "protocol": "all rows",
        "sha256": {"samples": "0123456789abcdef" * 4, "labels": "f" * 64},
    }
    map_ = {
        "coordinates": np.random.default_rng(1).normal(size=(len(assignments), 2)).astype(np.float32),
        "assignments": assignments,
        "certainty": parts["certainty"].certainty,
        "labels": labels,
    }
    return write_report(
        scores=scores_of(assignments, labels, n_clusters, **changes),
        map_=map_,
        gallery=select_members(**parts, n_clusters=n_clusters, n_members=3),
        data_card=data_card | (card or {}),
        options=options,
        cluster_names=cluster_names,
        siblings=siblings,
    )


@pytest.fixture(scope="module")
def labelled():
    """Twelve points, three clusters, two rows of a foreign class, one class that is an attack."""
    assignments = np.repeat(np.arange(3), 4)
    labels = assignments.copy()
    labels[[0, 4]] = 2
    return report_of(assignments, labels, 3, names=["a $b_$ \\frac", ATTACK, "c"], warnings=[ATTACK])


def no_labels(n_samples):
    return np.full(n_samples, -1, dtype=np.int64)


class TestProjectLatent:
    @pytest.mark.parametrize("shape", [(1, 3), (4, 1), (9, 60), (10, 1), (40, 1), (40, 60), (40, 2)])
    def test_shape_dtype_and_finite(self, shape):
        latent = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        coordinates = project_latent(latent, seed=0)
        assert coordinates.shape == (shape[0], 2)
        assert coordinates.dtype == np.float32
        assert np.isfinite(coordinates).all()

    @pytest.mark.parametrize("n_samples", [1, 5, 30])
    def test_constant_latent_is_one_point(self, n_samples):
        latent = np.full((n_samples, 4), 0.1, dtype=np.float32)
        np.testing.assert_array_equal(project_latent(latent, seed=0), 0)

    def test_few_rows_keep_their_distances_in_a_plane(self):
        latent = np.array([[0, 0, 5], [3, 0, 5], [0, 4, 5]], dtype=np.float32)
        a, b, c = project_latent(latent, seed=0)
        sides = np.array([np.linalg.norm(a - b), np.linalg.norm(a - c), np.linalg.norm(b - c)])
        np.testing.assert_allclose(sides / sides[0], [1, 4 / 3, 5 / 3], rtol=1e-5)

    @pytest.mark.parametrize("max_points", [60, 30])
    def test_same_seed_same_picture_input_untouched(self, max_points):
        latent = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
        before = latent.copy()
        first = project_latent(latent, seed=3, max_points=max_points)
        np.testing.assert_array_equal(first, project_latent(latent, seed=3, max_points=max_points))
        np.testing.assert_array_equal(latent, before)

    def test_rows_left_out_of_the_draw_lie_with_their_own_group(self):
        rng = np.random.default_rng(0)
        group = np.repeat([0, 1], 100)
        latent = rng.normal(size=(200, 4)) + 50 * group[:, None]
        coordinates = project_latent(latent, seed=0, max_points=60)
        centres = np.stack([coordinates[group == k].mean(axis=0) for k in (0, 1)])
        nearest = np.linalg.norm(coordinates[:, None] - centres, axis=2).argmin(axis=1)
        np.testing.assert_array_equal(nearest, group)

    def test_many_equal_rows(self):
        latent = np.repeat(np.eye(3, dtype=np.float32), 40, axis=0)
        assert np.isfinite(project_latent(latent, seed=0)).all()

    @pytest.mark.parametrize("latent", [np.zeros(3), np.zeros((0, 2)), np.array([[np.nan, 1.0]])])
    def test_bad_latent(self, latent):
        with pytest.raises(ValueError, match="latent must be finite"):
            project_latent(latent, seed=0)

    def test_bad_max_points(self):
        with pytest.raises(ValueError, match="max_points must be at least 10, got 2"):
            project_latent(np.zeros((20, 2)), seed=0, max_points=2)


class TestPlaceRows:
    @pytest.fixture
    def drawn(self, monkeypatch):
        """Arrays that were projected, in turn; nothing is remembered from before."""
        calls = []

        def spy(rows, **options):
            calls.append(rows)
            return project_latent(rows, **options)

        monkeypatch.setattr(projection, "project_latent", spy)
        monkeypatch.setattr(projection, "_kept", {})
        return calls

    def test_the_same_rows_are_mapped_once_by_all_methods_and_the_comparison(self, drawn):
        rows = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
        assignments, options = np.arange(40) % 3, {"map_points": 40, "most_points": 40, "hover_points": 0, "members": 1}
        represented = {"latent": rows.copy(), "responsibilities": one_hot(assignments, 3)}
        ids = pd.DataFrame({"sample": range(40), "id": range(40)})
        maps = [project(assignments, represented, rows, ids, assignments, {"terms": []}, options) for _ in range(2)]
        shared = draw_shared_map(rows.reshape(40, 2, 2), {"some": assignments}, "some")
        assert len(drawn) == 1
        for coordinates in (*(map_["coordinates"] for map_ in maps), shared.coordinates):
            np.testing.assert_array_equal(coordinates, project_latent(rows, seed=0))

    def test_others_have_their_own(self, drawn):
        rows = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
        others = [(rows, 1, 40), (rows + 1, 0, 40), (rows.astype(float), 0, 40), (rows[::-1], 0, 40), (rows, 0, 20)]
        for array, seed, most in [(rows, 0, 40), (rows.reshape(20, 8), 0, 40), *others]:
            found = projection.place_rows(array, seed=seed, max_points=most)
            np.testing.assert_array_equal(found, project_latent(array, seed=seed, max_points=most))
        assert len(drawn) == 7
        projection.place_rows(rows, seed=0, max_points=5000)  # as with 40, which are all
        assert len(drawn) == 7

    def test_few_are_kept_and_a_caller_may_write_into_its_own(self, drawn):
        arrays = [np.random.default_rng(seed).normal(size=(9, 2)) for seed in range(12)]
        for rows in arrays:
            projection.place_rows(rows, seed=0)[:] = 0
        assert len(projection._kept) < 12
        assert projection.place_rows(arrays[-1], seed=0).any()
        assert len(drawn) == 12

    def test_no_rows(self):
        with pytest.raises(ValueError, match="latent must be finite"):
            projection.place_rows(np.zeros((0, 2)), seed=0)


def test_labels_have_a_checksum_only_where_there_are_labels():
    assignments = np.array([0, 1, 0, 1])
    unknown = np.full(4, -1)
    assert "SHA-256 of labels" not in report_of(assignments, unknown, 2)
    known = {"n_classes": 2, "class_names": ["a", "b"], "class_counts": [2, 2]}
    assert "SHA-256 of labels" in report_of(assignments, assignments, 2, card=known)


class TestSelectMembers:
    def test_ends_of_a_cluster_and_blanks(self):
        top = np.array([0.9, 0.6, 0.8, 0.7, 0.95, 0.99], dtype=np.float32)
        assignments = np.array([0, 0, 0, 0, 0, 2])
        rest = (1 - top)[:, None] / 2
        responsibilities = np.where(one_hot(assignments, 3) == 1, top[:, None], rest)
        samples = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
        gallery = select_members(
            assignments=assignments,
            certainty=certainty_from(assignments, responsibilities, samples),
            samples=samples,
            n_clusters=3,
            n_members=2,
        )
        # cluster 0 by certainty: rows 4, 0, 2, 3, 1; cluster 1 is empty; cluster 2 has one member
        expected = [[[4, 0], [1, 3]], [[-1, -1], [-1, -1]], [[5, -1], [-1, -1]]]
        np.testing.assert_array_equal(gallery["rows"], expected)
        assert gallery["rows"].dtype == np.int64
        assert gallery["certainty"].dtype == np.float32
        np.testing.assert_array_equal(np.isnan(gallery["certainty"]), gallery["rows"] < 0)
        assert gallery["images"].shape == (3, 2, 2, 1, 1, 1)
        assert gallery["images"].dtype == np.uint8
        np.testing.assert_array_equal(gallery["images"][..., 0, 0, 0], np.maximum(gallery["rows"], 0))

    def test_no_member_twice_and_most_at_least_least(self):
        rng = np.random.default_rng(0)
        responsibilities = rng.dirichlet(np.ones(4), size=37).astype(np.float32)
        assignments = responsibilities.argmax(axis=1)
        gallery = select_members(
            assignments=assignments,
            certainty=certainty_from(assignments, responsibilities, np.zeros((37, 2))),
            samples=np.zeros((37, 2)),
            n_clusters=4,
            n_members=8,
        )
        shown = gallery["rows"][gallery["rows"] >= 0]
        assert len(np.unique(shown)) == len(shown)
        assert "images" not in gallery
        for most, least in gallery["certainty"]:
            assert np.nanmin(most) >= np.nanmax(least)

    @pytest.mark.parametrize("assignment", [-1, 2])
    def test_assignment_out_of_range(self, assignment):
        with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
            select_members(
                assignments=np.array([assignment]),
                certainty=Certainty(*np.zeros((3, 1))),
                samples=np.zeros((1, 1)),
                n_clusters=2,
                n_members=1,
            )


class TestReport:
    def test_escapes_what_comes_from_the_data(self, labelled):
        assert ATTACK not in labelled
        assert labelled.count("<script") == 1  # the page's own
        assert "&lt;script&gt;" in labelled

    def test_loads_nothing(self, labelled):
        without_script = re.sub("<script>.*</script>", "", labelled, flags=re.DOTALL)
        references = re.findall(r"""(?:src|href|url|action|srcset)\s*[=(]\s*["']?([^"'\s>)]+)""", without_script)
        assert references
        assert all(reference.startswith(("data:", "#")) for reference in references)
        assert "@import" not in labelled

    def test_figures_are_self_contained(self, labelled):
        figures = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', labelled)
        assert figures
        for figure in figures:
            svg = base64.b64decode(figure).decode()
            assert not re.search(r'href="(?!#|data:)', svg)

    def test_same_input_same_page(self):
        assignments = np.arange(12) % 2
        pages = [report_of(assignments, assignments, 2) for _ in range(2)]
        assert pages[0] == pages[1]

    def test_names_the_run_and_how_to_repeat_it(self, labelled):
        text = re.sub(r"<[^>]+>", "", labelled)
        assert "kedro run --pipelines=kmeans --env=blobs --params=seed=7" in text
        assert 'title="' + "0123456789abcdef" * 4 + '"' in labelled
        assert "viewport" in labelled

    def test_every_image_is_described(self, labelled):
        images = re.findall(r"<img [^>]+>", labelled)
        assert images
        assert all(re.search(r'alt="[^"]{10,}"', image) for image in images)

    def test_members_of_another_class_are_marked(self, labelled):
        # rows 0 and 4 are of class 2 in clusters 0 and 1; each cluster of four shows two on either side
        assert len(re.findall(r'<li class="chip foreign"', labelled)) == 2
        assert len(re.findall(r'<li class="chip', labelled)) == 12

    def test_warning_box_only_when_there_is_something_to_say(self, labelled):
        assignments = np.arange(12) % 2
        assert 'role="alert"' in labelled
        assert 'role="alert"' not in report_of(assignments, assignments, 2)
        assert "collapsed" in report_of(assignments, assignments, 2, collapsed=True)

    def test_without_labels_no_confusion_and_no_class_map(self, labelled):
        page = report_of(np.arange(12) % 2, no_labels(12), 2)
        for heading in ("Clusters and classes", "By true class", "Agreement with the classes"):
            assert heading in labelled
            assert heading not in page

    def test_without_history_no_learning_curves(self, labelled):
        page = report_of(np.arange(12) % 2, no_labels(12), 2, epochs=0)
        assert "Learning curves" in labelled
        assert "Learning curves" not in page

    def test_every_history_column_has_a_panel(self):
        history = {"epoch": [1, 2], "log_likelihood": [0.1, None], "discriminator_accuracy": [1.0, 0.5]}
        curves = {"history": history | {"my_column": [float("nan")] * 2}, "snapshots": {"epoch": []}}
        page = report_of(np.arange(12) % 2, no_labels(12), 2, curves=curves)
        for title in ("Log-likelihood", "Discriminator accuracy", "My column"):
            assert f"<h3>{title}</h3>" in page

    @pytest.mark.parametrize("n_clusters", [2, 25, 100])
    def test_empty_clusters_are_named_at_any_number_of_clusters(self, n_clusters):
        assignments = np.zeros(30, dtype=np.int64)
        page = report_of(assignments, np.arange(30) % 3, n_clusters)
        assert len(re.findall(r"Cluster \d+ <span>empty</span>", page)) == n_clusters - 1

    @pytest.mark.parametrize("n_channels", [1, 3])
    def test_images_are_stretched_over_the_value_range(self, n_channels):
        samples = np.zeros((4, n_channels, 2, 2), dtype=np.uint8)
        samples[:, :, 0, 0], samples[:, :, 0, 1] = 16, 8
        page = report_of(np.array([0, 0, 1, 1]), no_labels(4), 2, samples=samples, card={"value_range": [0, 16]})
        images = re.findall(r'<li><img src="data:image/png;base64,([^"]+)"', page)
        assert len(images) == 4
        pixels = np.atleast_3d(imread(io.BytesIO(base64.b64decode(images[0]))))[..., 0]
        np.testing.assert_allclose(pixels, [[1, 0.5], [0, 0]], atol=1 / 255)

    def test_reliability_says_which_way_the_confidences_err(self):
        assignments = np.arange(12) % 2
        table = {"edges": [0, 0.5, 1], "confidence": [None, 0.9], "accuracy": [None, 0.5], "counts": [0, 12]}
        metrics = {"ece": 0.4, "n_occupied": 2}
        page = report_of(assignments, assignments, 2, reliability=table, metrics=metrics)
        assert "<h3>Reliability</h3>" in page
        assert "mean confidence is 90.0% and 50.0% are right in the matched class: on the whole too sure" in page
        assert "calibration error 0.400" in page
        modest = table | {"confidence": [None, 0.5], "accuracy": [None, 0.9]}
        assert "not sure enough" in report_of(assignments, assignments, 2, reliability=modest, metrics=metrics)
        assert "<h3>Reliability</h3>" not in report_of(assignments, assignments, 2, reliability=None)

    @pytest.mark.parametrize(
        ("suggested", "n_classes", "expected", "absent"),
        [
            (3, None, ["Suggested: 3, which won in 75% of", "3 to 4 won in at least 95 %"], ["The labels", "wider"]),
            (3, 3, ["The labels have as many classes, 3."], ["wider"]),
            (3, 5, ["The labels have 5 classes: 2 more."], ["wider"]),
            (4, 3, ["The labels have 3 classes: 1 fewer.", "which won in 25% of", "try a wider one"], []),
            (2, None, ["which won in 0% of"], ["wider"]),
        ],
    )
    def test_number_of_clusters_with_its_interval_and_the_classes(self, suggested, n_classes, expected, absent):
        selection = {
            "n_clusters": [2, 3, 4],
            "log_likelihood": [0.2, 0.8, 0.9],
            "log_likelihood_deviation": [0.01, 0.02, 0.03],
            "bound": [0.69, 1.1, 1.39],
            "probability": [0.0, 0.75, 0.25],
            "suggested": suggested,
            "interval": [3, 4],
            "n_classes": n_classes,
            "difference": None if n_classes is None else suggested - n_classes,
        }
        page = report_of(np.arange(12) % 2, no_labels(12), 2, selection=selection)
        assert "<h2>Number of clusters</h2>" in page
        assert "seed=7,n_clusters.min=2,n_clusters.max=4" in page
        assert "2 were suggested." in page
        assert all(text in page for text in expected)
        assert not any(text in page for text in absent)

    def test_the_bound_of_the_log_likelihood_knows_of_the_pairs_without_a_common_cluster(self):
        curves = {"history": {"epoch": [1, 2], "log_likelihood": [0.1, 0.5]}, "snapshots": {"epoch": []}}
        changes = {"curves": curves, "metrics": {"log_likelihood": 0.5, "n_occupied": 2}}
        plain, noisy = (
            report_of(np.arange(12) % 2, no_labels(12), 2, options={"pair_noise": noise}, **changes)
            for noise in (0.0, 0.1)
        )
        assert "cannot exceed 0.693." in plain  # log 2
        assert "cannot exceed 0.642." in noisy  # log(.9 * 2 + .1)

    def test_an_estimated_noise_leaves_the_bound_that_holds_for_any(self):
        curves = {"history": {"epoch": [1, 2], "log_likelihood": [0.1, 0.5]}, "snapshots": {"epoch": []}}
        changes = {"curves": curves, "metrics": {"log_likelihood": 0.5, "pair_noise": 0.2, "n_occupied": 2}}
        options = {"pair_noise": 0.1, "estimate_noise": True}
        page = report_of(np.arange(12) % 2, no_labels(12), 2, options=options, **changes)
        assert "cannot exceed 0.693." in page  # log 2
        assert "Pair noise" in page
        fixed = report_of(np.arange(12) % 2, no_labels(12), 2, options=options | {"estimate_noise": False}, **changes)
        assert "cannot exceed 0.642." in fixed  # log(.9 * 2 + .1)

    @pytest.mark.parametrize(("rise", "converged"), [(-0.1, True), (0.0, True), (0.009, True), (0.011, False)])
    def test_whether_training_converged_is_said_of_the_last_rise(self, rise, converged):
        metrics = {"log_likelihood_rise": rise, "n_occupied": 2}
        page = report_of(np.arange(12) % 2, no_labels(12), 2, metrics=metrics)
        assert ("Converged." in page) is converged
        assert ("Not converged: more epochs may raise it further." in page) is not converged

    @pytest.mark.parametrize(("share", "converged"), [(0.53, False), (0.9, True)])
    def test_a_flat_end_far_below_the_bound_is_not_called_converged(self, share, converged):
        metrics = {"log_likelihood_rise": -0.0001, "log_likelihood_share": share, "n_occupied": 2}
        page = report_of(np.arange(12) % 2, no_labels(12), 2, metrics=metrics)
        assert ("Converged." in page) is converged
        assert ("Flat, but far below its bound" in page) is not converged
        assert "-0.000" not in page

    def test_without_a_rise_nothing_is_said_of_convergence(self, labelled):
        assert "onverged" not in labelled

    def test_candidates_are_listed_best_score_first(self):
        candidates = [
            {"origin": "best head", "score": 0.25, "is_chosen": False, "acc": 0.75},
            {"origin": ATTACK, "score": None, "is_chosen": False, "acc": 0.125},
            {"origin": "consensus", "score": 0.5, "is_chosen": True, "acc": None},
            {"origin": "", "score": -0.5, "is_chosen": False, "acc": 0.5},
        ]
        page = report_of(np.arange(12) % 2, no_labels(12), 2, candidates=candidates)
        section = page[page.index('<section id="candidates">') :]
        section = section[: section.index("</section>")]
        rows = re.findall(r'<th scope="row">([^<]*)</th><td[^>]*>([^<]*)</td><td[^>]*>([^<]*)</td>', section)
        assert rows == [
            ("3: consensus (kept)", "0.500", ""),
            ("1: best head", "0.250", "0.750"),
            ("4", "-0.500", "0.500"),
            ("2: &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;", "", "0.125"),
        ]
        assert 'href="#candidates"' in page

    @pytest.mark.parametrize("changes", [{}, {"candidates": []}], ids=["older scores", "nothing to choose from"])
    def test_without_candidates_no_table_of_them(self, changes):
        page = report_of(np.arange(12) % 2, no_labels(12), 2, **changes)
        assert "Candidates</h2>" not in page
        assert "#candidates" not in page

    def test_without_a_range_no_number_of_clusters(self, labelled):
        assert "Number of clusters</h2>" not in labelled
        assert "were asked for." in labelled

    def test_cost_is_shown_where_it_was_measured(self, labelled):
        cost = {"wall_seconds": 12.34, "cpu_seconds": 1234.5, "peak_memory_mb": 2048.4}
        page = report_of(np.arange(12) % 2, no_labels(12), 2, cost=cost)
        shown = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", page))
        assert shown["Time of the fit"] == "12.3 s"
        assert shown["Processor time"] == "1,234.5 s over all threads"
        assert shown["Peak memory"] == "2,048 MB"
        assert "Time of the fit" not in labelled

    def test_churn_of_epochs_and_of_snapshots_have_titles_of_their_own(self):
        history = {"epoch": [1, 2], "churn": [0.5, 0.25]}
        curves = {"history": history, "snapshots": {"epoch": [0, 2], "churn": [0.0, 0.5]}}
        page = report_of(np.arange(12) % 2, no_labels(12), 2, curves=curves)
        assert "<h3>Churn</h3>" in page
        assert "<h3>Churn between snapshots</h3>" in page

    def test_what_the_data_say_comes_first_and_how_it_was_computed_last(self, labelled):
        found = re.findall(r'<section id="([a-z]+)">', labelled)
        assert found == ["map", "members", "clusters", "scores", "curves", "run"]
        assert re.findall(r'<a href="#([a-z]+)">', labelled) == found
        assert labelled.index('role="alert"') < labelled.index('<section id="map">')

    def test_clusters_have_their_names_in_any_script_and_never_as_markup(self):
        assignments = np.repeat(np.arange(4), 3)
        assignments[assignments == 3] = 0
        names = ["猫, 狗", ATTACK, "c & d", "empty 3"]
        page = report_of(assignments, no_labels(12), 4, cluster_names=names)
        assert "</i>Cluster 0: 猫, 狗 <span>6 samples" in page
        assert "</i>Cluster 2: c &amp; d <span>" in page
        assert "</i>Cluster 3 <span>empty</span>" in page
        assert ATTACK not in page

    def test_the_command_that_repeats_a_run_is_one_for_a_shell(self):
        page = report_of(np.arange(6) % 2, no_labels(6), 2, feedback="feedback=my file.csv,clusters.model=v")
        assert re.search(r"&#39;--params=seed=\d+,feedback=my file.csv,clusters.model=v&#39;</span>", page)

    def test_clusters_that_were_merged_on_request_are_no_empty_ones(self):
        assignments = np.repeat([0, 2], 6)
        page = report_of(assignments, no_labels(12), 4, retired=[3])
        assert re.findall(r"</i>Cluster (\d)", page) == ["0", "1", "2"]
        assert "Empty: 1. Merged or dissolved on request: 3." in page
        assert "the smallest cluster 1 with 0" in page
        assert "sizes of 3 clusters, 1 of them empty" in page

    def test_methods_of_the_same_run_are_linked(self, labelled):
        page = report_of(np.arange(12) % 2, no_labels(12), 2, siblings=["ward", "gmm"])
        links = re.findall(r'<a href="../../../(\w+)/report.html/THIS_VERSION/report.html">', page)
        assert links == ["comparison", "ward", "gmm"]
        assert "THIS_VERSION" not in labelled

    def test_curves_and_facts_of_the_run_are_folded_at_the_end(self, labelled):
        folded = re.findall(r'<section id="(\w+)">\s*<details>', labelled)
        assert folded == ["curves", "run"]
        assert all(f'<a href="#{name}">' in labelled for name in folded)

    def test_names_of_another_run_are_refused(self):
        with pytest.raises(ValueError, match="cluster_names has 2 clusters, expected 3"):
            report_of(np.repeat(np.arange(3), 4), no_labels(12), 3, cluster_names=["a", "b"])

    def test_gallery_of_another_run_is_refused(self):
        gallery = {"rows": np.full((3, 2, 1), -1)}
        with pytest.raises(ValueError, match="gallery has 3 clusters, expected 2"):
            write_report(scores={"occupancy": [1, 1]}, map_={}, gallery=gallery, data_card={})


class TestTexts:
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("entropy", "log K"),
            ("agreement", "two views"),
            ("churn", "towards zero"),
            ("occupancy_entropy", "collapse"),
            ("within_share", "within clusters"),
            ("js_divergence", "between 0 and ln 2"),
            ("discriminator_accuracy_positive", "around the centroids (positive)"),
            ("discriminator_accuracy_negative", "latents (negative)"),
        ],
    )
    def test_every_diagnostic_says_what_to_look_for(self, name, words):
        assert words in describe_curve(name)[1].replace('"', "")
        assert describe_curve(name)[1] != describe_curve("unheard_of")[1]

    @pytest.mark.parametrize(
        "name",
        [
            "ece",
            "oracle_gap",
            "candidate_acc_mean",
            "candidate_agreement",
            "log_likelihood_rise",
            "log_likelihood_share",
            "n_clusters_suggested",
            "n_clusters_off",
            "pair_noise",
        ],
    )
    def test_every_figure_of_a_choice_is_described(self, name):
        assert name in METRICS
        assert describe_metric(name).sentence != describe_metric("unheard_of").sentence

    def test_levels_that_curves_are_compared_with(self):
        assert reference_level("js_divergence", [0.1], 4, False)[0] == pytest.approx(0.693147, abs=1e-6)
        assert reference_level("occupancy_entropy", [0.1, 1.3], 4, False)[0] == pytest.approx(np.log(4))
        assert reference_level("entropy", [1.2], 4, False)[0] == pytest.approx(np.log(4))
        assert reference_level("entropy", [1.2], 4, True) is None  # the number of clusters changed during the training
        assert reference_level("n_occupied", [3], 4, True) == (4, "suggested")
        assert reference_level("churn", [0.1], 4, False) is None


class TestComparison:
    @staticmethod
    def runs(**metrics):
        assignments = np.arange(12) % 2
        return {
            name: scores_of(assignments, no_labels(12), 2, method=name, metrics=values)
            for name, values in metrics.items()
        }

    @staticmethod
    def table(runs):
        return pd.DataFrame([{"method": name, "seed": 7, **run["metrics"]} for name, run in runs.items()])

    def page(self, **metrics):
        runs = self.runs(**metrics)
        return write_comparison(table=self.table(runs), all_scores=runs)

    def test_sorted_by_accuracy_missing_last(self):
        page = self.page(bad={"acc": 0.2}, blind={"silhouette_of_features": 0.9}, good={"acc": 0.8})
        assert re.findall(r'<th scope="row">(\w+)', page) == ["good", "bad", "blind"]

    def test_sorted_by_silhouette_without_accuracy(self):
        page = self.page(bad={"silhouette_of_features": 0.1}, good={"silhouette_of_features": 0.9})
        assert re.findall(r'<th scope="row">(\w+)', page) == ["good", "bad"]

    def test_best_of_a_column_is_bold_and_descriptive_columns_have_none(self):
        page = self.page(
            a={"acc": 0.5, "nmi": 0.61, "largest_share": 0.9},
            b={"acc": 0.75, "nmi": 0.61, "largest_share": 0.5},
        )
        assert re.findall(r"<b>([^<]+)</b>", page) == ["0.750"]

    def test_escapes_and_loads_nothing(self):
        runs = self.runs(**{ATTACK: {"acc": 0.5}})
        page = write_comparison(table=self.table(runs), all_scores=runs)
        assert ATTACK not in page
        assert page.count("<script") == 1  # the page's own
        assert not re.search(r'(?:src|href)="(?!data:)', page)
        assert "one seed" in page

    def test_runs_on_different_data_are_called_out(self):
        runs = self.runs(a={"acc": 0.5}, b={"acc": 0.6})
        assert 'role="alert"' not in write_comparison(table=self.table(runs), all_scores=runs)
        runs["b"]["data_sha256"] = "cd" * 32
        assert "do not share one data" in write_comparison(table=self.table(runs), all_scores=runs)

    @staticmethod
    def advice():
        one = {"score": 1.25, "interval": [1.0, 1.5], "chance": 0.01, "same_cluster": 0.875, "n_clusters": 4}
        return {
            "method": "plain",
            "sentence": "Recommended: plain. Nothing <is> better.",
            "certainty": "A second fit agrees: repeatable.",
            "scores": {"plain": {**one, "is_baseline": True}, "net": {**one, "score": 0.5, "is_baseline": False}},
            "agreement": {"net": 0.375},
            "n_rows": 120,
            "n_pairs": 5,
        }

    def test_the_first_line_is_the_recommendation_and_whether_it_is_found_again(self):
        runs = self.runs(net={"acc": 0.5}, plain={"acc": 0.6})
        page = write_comparison(table=self.table(runs), all_scores=runs, recommendation=self.advice())
        first = re.search(r"</h1>\s*<p>(.*?)</p>", page, flags=re.DOTALL)[1]
        sentence = "Recommended: plain. Nothing &lt;is&gt; better."
        assert first == f"<strong>{sentence}</strong> A second fit agrees: repeatable."
        assert page.index("Recommended:") < page.index("<section")
        section = page[page.index("Without labels") :]
        rows = re.findall(r'<tr><th scope="row">(\w+)</th>(.*?)</tr>', section, flags=re.DOTALL)
        assert [name for name, _ in rows] == ["plain", "net"]
        cells = [re.findall(r"<td.*?>(?:<strong>)?(.*?)(?:</strong>)?</td>", text) for _, text in rows]
        assert cells[0][:6] == ["baseline", "1.250", "1.000 to 1.500", "0.010", "0.875", "4"]
        assert [cells[1][place] for place in (0, 1, 6)] == ["neural", "0.500", "0.375"]

    def test_what_methods_say_in_a_space_of_their_own_is_no_column(self):
        own = {"acc": 0.5, "silhouette": 0.987, "stability": 0.876, "js_divergence": 0.765, "log_likelihood": 0.654}
        page = self.page(a=own, b=own | {"acc": 0.25, "silhouette_of_features": 0.125})
        assert not re.search("0.987|0.876|0.765|0.654", page)
        assert "Silhouette of the features" in page
        assert "0.125" in page

    def test_cost_stands_beside_the_scores_and_ranks_nothing(self):
        page = self.page(a={"acc": 0.5, "cpu_seconds": 12.34, "peak_memory_mb": 1234.5}, b={"acc": 0.25})
        (row,) = re.findall(r'<th scope="row">a</th>(.*?)</tr>', page, flags=re.DOTALL)
        assert re.findall(r'data-label="([^"]*)">([^<]*)</td>', row)[-2:] == [
            ("CPU seconds", "12.3"),
            ("Peak MB", "1,234"),
        ]
        assert re.findall(r"<b>([^<]+)</b>", page) == ["0.500"]

    def test_a_name_leads_to_the_report_of_its_method_unless_it_has_none(self):
        runs = self.runs(a={"acc": 0.5}, b={"acc": 0.25}, c={"acc": 0.125})
        page = write_comparison(table=self.table(runs), all_scores=runs, reported=["a", "b"], failures={"b": "no page"})
        assert re.findall(r'<a href="([^"]*)">(\w+)</a>', page) == [
            ("../../../a/report.html/THIS_VERSION/report.html", "a")
        ]

    def test_maps_side_by_side_and_the_agreement_of_each_two(self):
        runs = self.runs(a={"acc": 0.25}, plain={"acc": 0.5})
        clusters = {"plain": np.arange(12) % 2, "a": 1 - np.arange(12) % 2}
        page = write_comparison(
            table=self.table(runs),
            all_scores=runs,
            recommendation=self.advice() | {"scores": {}},
            agreement={"a": {"a": 1.0, "plain": 0.375}, "plain": {"a": 0.375, "plain": 1.0}},
            shared_map=draw_shared_map(np.random.default_rng(0).normal(size=(12, 3)), clusters, "plain"),
        )
        assert re.findall(r"<h3>(\w+)</h3>", page) == ["plain", "a"]
        assert re.findall(r"<figcaption>(.*?)</figcaption>", page)[:2] == [
            "2 clusters, recommended",
            "2 clusters, ARI 0.38",
        ]
        rows = re.findall(r'<td style="--share: [\d.]+">([\d.]+)</td>', page)
        assert rows == ["1.00", "0.38", "0.38", "1.00"]

    def test_the_map_of_a_recommended_method_without_scores_is_not_claimed(self):
        runs = self.runs(a={"acc": 0.25})  # "plain" is recommended, and failed when it was scored
        page = write_comparison(
            table=self.table(runs),
            all_scores=runs,
            recommendation=self.advice(),
            failures={"plain": "no scores"},
            agreement={"a": {"a": 1.0}},
            shared_map=draw_shared_map(np.arange(24.0).reshape(12, 2), {"a": np.arange(12) % 2}, "a"),
        )
        assert re.findall(r"<figcaption>(.*?)</figcaption>", page)[:1] == ["2 clusters, whose colours the others have"]
        assert "the colour of the cluster of a that" in page

    def test_methods_that_failed_are_named_with_the_reason(self):
        runs = self.runs(a={"acc": 0.5})
        page = write_comparison(table=self.table(runs), all_scores=runs, failures={"b": "b: no <such> rows"})
        assert "<li>b failed and was left out: b: no &lt;such&gt; rows</li>" in page

    def test_no_rows(self):
        with pytest.raises(ValueError, match="at least one method"):
            write_comparison(table=pd.DataFrame(), all_scores={})


def test_library_knows_neither_kedro_nor_mlflow_nor_pyplot():
    code = (
        "import sys, deep_clustering.reporting; "
        "print([m for m in ('kedro', 'mlflow', 'matplotlib.pyplot') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
