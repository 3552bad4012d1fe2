"""Nodes of the reporting pipelines."""

from collections.abc import Collection
from typing import Any

import numpy as np


def project(
    assignments: np.ndarray,
    representation: dict[str, np.ndarray],
    samples: np.ndarray,
    row_ids: Any,  # noqa: ANN401 - pandas is imported when it is needed
    labels: np.ndarray,
    vocabulary: dict[str, Any],
    reporting: dict[str, Any],
) -> dict[str, np.ndarray]:
    """Draw the latent as a map.

    Args:
        assignments: Cluster of each sample.
        representation: Latent and certainty of each sample.
        samples: The samples, for what the map shows under the pointer.
        row_ids: A line for each row of the source.
        labels: Class of each sample, -1 where unknown.
        vocabulary: Terms of a text's columns.
        reporting: Options of the reporting.

    Returns:
        "coordinates" (n, 2), NaN of rows that are not on the map; "assignments", "certainty" and "labels" (n,);
        "shown", and "ids", "thumbnails" or "terms" of the samples that answer to the pointer.
    """
    from deep_clustering.data.sources.row_ids import given_ids
    from deep_clustering.reporting.hover import pick_shown
    from deep_clustering.reporting.options import make_reporting
    from deep_clustering.reporting.projection import draw_points, place_rows
    from deep_clustering.scores.certainty import certainty_of

    options = make_reporting(reporting)
    drawn = draw_points(len(assignments), options.most_points, seed=0)
    ids, terms = given_ids(row_ids), vocabulary["terms"]
    coordinates = np.full((len(assignments), 2), np.nan, dtype=np.float32)
    coordinates[drawn] = place_rows(representation["latent"][drawn], seed=0, max_points=options.map_points)
    return {
        "coordinates": coordinates,
        "assignments": assignments,
        "certainty": certainty_of(assignments, representation).certainty,
        "labels": labels,
        **pick_shown(samples, terms=terms, n_shown=options.hover_points, seed=0, among=drawn, ids=ids),
    }


def pick_members(
    assignments: np.ndarray,
    representation: dict[str, np.ndarray],
    samples: np.ndarray,
    row_ids: Any,  # noqa: ANN401
    data_card: dict[str, Any],
    vocabulary: dict[str, Any],
    reporting: dict[str, Any],
) -> dict[str, np.ndarray]:
    """Pick each cluster's most and least certain members.

    Args:
        assignments: Cluster of each sample.
        representation: Latent and responsibilities of each sample.
        samples: The samples.
        row_ids: A line for each row of the source.
        data_card: Knows the columns of a table.
        vocabulary: Terms of a text's columns.
        reporting: Options of the reporting.

    Returns:
        "rows" and "certainty" (n_clusters, 2, n_members), "ids" if there are any; for images also "images", for
        documents "terms" of the clusters and "member_terms", for tables the "columns" that set clusters apart.
    """
    from deep_clustering.data.sources.row_ids import given_ids
    from deep_clustering.reporting.members import select_members
    from deep_clustering.reporting.options import make_reporting
    from deep_clustering.scores.certainty import certainty_of

    return select_members(
        assignments=assignments,
        certainty=certainty_of(assignments, representation),
        samples=samples,
        n_clusters=representation["responsibilities"].shape[1],
        n_members=make_reporting(reporting).members,
        terms=vocabulary["terms"],
        ids=given_ids(row_ids),
        columns=data_card.get("reading", {}).get("columns", ()),
    )


def report(
    scores: dict[str, Any],
    map_: dict[str, np.ndarray],
    gallery: dict[str, np.ndarray],
    data_card: dict[str, Any],
    neighbours_card: dict[str, Any],
    cluster_names: list[str],
    options: dict[str, Any],
    beside: Collection[str] = (),
    failures: dict[str, str] | None = None,
) -> tuple[str, Any, Any, Any]:
    """Write the page of a run, and draw it.

    Args:
        scores: All figures of the run.
        map_: The two-dimensional map.
        gallery: Members of each cluster.
        data_card: What the data is.
        neighbours_card: How near rows were found.
        cluster_names: Name of each cluster.
        options: The method's hyper-parameters.
        beside: Other methods that the same run compares it with.
        failures: What went wrong with methods that have no page, by name.

    Returns:
        page: a self-contained HTML page.
        map, clusters, curves: matplotlib figures, see `deep_clustering.reporting.pictures.Pictures`.
    """
    from deep_clustering.reporting.page import write_report
    from deep_clustering.reporting.pictures import draw_pictures

    page = write_report(
        scores=scores,
        map_=map_,
        gallery=gallery,
        data_card={**data_card, "neighbours": neighbours_card},
        options=options,
        cluster_names=cluster_names,
        siblings=[name for name in beside if name not in (failures or {})],
    )
    return page, *draw_pictures(scores, map_, data_card, options)


def recommend(
    features: np.ndarray,
    split: np.ndarray,
    space: dict[str, Any],
    recommendation: dict[str, Any],
    failures: dict[str, str] | None = None,
    **of_methods: Any,  # noqa: ANN401
) -> tuple[dict[str, Any], np.ndarray]:
    """Recommend one of several partitions, and say whether it is found again.

    Args:
        features: Rows, shape (n_samples, ...), float32.
        split: What each row is for; the fitted ones are scored.
        space: Options of the neighbours.
        recommendation: Options, see `deep_clustering.scores.recommendation.RecommendationOptions`.
        failures: What went wrong with methods that are missing, by name.
        **of_methods: `<name>_assignments`, the cluster of each row, and `<name>_options` of each method.

    Returns:
        recommendation: plain JSON values, see `deep_clustering.scores.recommending.make_recommendation`.
        recommended_assignments: the cluster of each row under the method that is recommended.
    """
    from deep_clustering.data.sources import select_fitted
    from deep_clustering.scores.recommending import Candidates, make_recommendation

    assignments, options = _parts(of_methods, "assignments"), _parts(of_methods, "options")
    fitted = {name: select_fitted(clusters, split) for name, clusters in assignments.items()}
    candidates = Candidates(select_fitted(features, split), fitted, options)
    described = {**make_recommendation(candidates, space, recommendation), "failures": failures or {}}
    return described, assignments[described["method"]]


def pick_table(recommendation: dict[str, Any], **tables: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Take the table of the method that is recommended.

    Args:
        recommendation: The method that is recommended.
        **tables: `<name>_table`, a line for each row of the source, of each method.

    Returns:
        shown: a pandas.DataFrame for a CSV file, safe to open in a spreadsheet.
        table: the same with all digits.

    Raises:
        ValueError: if the method failed after its clusters were found.
    """
    from deep_clustering.reporting import assignment_table

    method = recommendation["method"]
    table = _parts(tables, "table").get(method)
    if table is None:
        raise ValueError(f"recommendation: {method} is recommended and has no table of clusters; it failed before")
    return assignment_table.for_spreadsheets(table), table


def compare_methods(
    recommendation: dict[str, Any],
    features: np.ndarray,
    split: np.ndarray,
    evaluation: dict[str, Any],
    reported: Collection[str] = (),
    failures: dict[str, str] | None = None,
    **of_methods: Any,  # noqa: ANN401
) -> tuple[Any, str, Any]:
    """Put several methods side by side.

    Args:
        recommendation: The method that is recommended, and how methods compare without labels.
        features: Rows, shape (n_samples, ...), float32.
        split: What each row is for; the fitted ones are on the map.
        evaluation: Options of the evaluation.
        reported: Methods whose pages the same run writes.
        failures: What went wrong with methods that are missing, by name.
        **of_methods: `<name>_scores` and `<name>_assignments` of each method.

    Returns:
        table: a pandas.DataFrame with one row per method.
        page: a self-contained HTML page.
        figure: the scores as a dot plot, a matplotlib figure.
    """
    from deep_clustering.data.sources import select_fitted
    from deep_clustering.reporting.comparison import tabulate, write_comparison
    from deep_clustering.reporting.pictures import draw_comparison
    from deep_clustering.reporting.shared_map import draw_shared_map
    from deep_clustering.scores.shared_space import compare_partitions

    scores, assignments = _parts(of_methods, "scores"), _parts(of_methods, "assignments")
    rows = select_fitted(features, split)
    fitted = {name: select_fitted(assignments[name], split) for name in scores}
    space = compare_partitions(rows, fitted, evaluation["silhouette_samples"])
    table = tabulate(scores, recommendation, space.silhouette)
    reference = recommendation["method"] if recommendation["method"] in fitted else next(iter(fitted))
    page = write_comparison(
        table=table,
        all_scores=scores,
        recommendation=recommendation,
        failures=failures,
        agreement=space.agreement,
        shared_map=draw_shared_map(rows, fitted, reference),
        reported=reported,
    )
    return table, page, draw_comparison(table)


def _parts(of_methods: dict[str, Any], what: str) -> dict[str, Any]:
    """What is called `<name>_<what>`, by name."""
    return {key.removesuffix(f"_{what}"): value for key, value in of_methods.items() if key.endswith(f"_{what}")}
