"""Reporting pipelines: a page per method, and a comparison of methods."""

from collections.abc import Collection
from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline

from deep_clustering.pipelines.reporting.nodes import (
    compare_methods,
    pick_members,
    pick_table,
    project,
    recommend,
    report,
)


def create_pipeline(name: str, beside: Collection[str] = (), on: str = "") -> Pipeline:
    """A method's scores and representation to its page and its pictures.

    Args:
        name: The method's namespace.
        beside: Namespaces of the same run that it is compared with; its page leads to theirs.
        on: Where its rows come from, see `training.create_pipeline`.

    Returns:
        The nodes `project_<name>`, `pick_members_<name>` and `report_<name>` in the namespace `evaluation`.
    """
    assigned = [f"{name}_assignments", f"{name}_representation", "samples", "row_ids"]
    scores, map_, gallery, page = (f"{name}_{output}" for output in ("scores", "map", "gallery", "report"))
    shown = [page, *(f"{name}_{picture}_figure" for picture in ("map", "clusters", "curves"))]
    seen = ["vocabulary", "params:reporting"]
    names = f"{name}_cluster_names"
    written = {"scores": scores, "map_": map_, "gallery": gallery, "data_card": "data_card"}
    near = f"{on}_neighbours_card" if on else "neighbours_card"
    written |= {"neighbours_card": near, "cluster_names": names, "options": f"params:{name}"}
    write = update_wrapper(partial(report, beside=[other for other in beside if other != name]), report)
    nodes = [
        Node(project, [*assigned, "labels", *seen], map_, name=f"project_{name}", tags="evaluate"),
        Node(pick_members, [*assigned, "data_card", *seen], gallery, name=f"pick_members_{name}", tags="evaluate"),
        Node(write, written, shown, name=f"report_{name}", tags="evaluate"),
    ]
    return Pipeline(
        nodes,
        namespace="evaluation",
        inputs={*assigned, "labels", "vocabulary", "data_card", near, names, scores},
        outputs={map_, gallery, *shown},
        parameters={"params:reporting", f"params:{name}"},
    )


def create_comparison(names: list[str], *, with_reports: bool) -> Pipeline:
    """What several methods say of the rows to one of them that is recommended, a table, a page and a picture.

    Args:
        names: Their namespaces.
        with_reports: Whether the same run writes the pages of the methods, so that the comparison leads to them.

    Returns:
        The nodes `recommend` and `pick_table`, which never see labels, and `compare_methods` in the namespace
        `evaluation`. They name what they take of each method, so that they can do without one that failed.
    """
    assigned = {f"{name}_assignments": f"{name}_assignments" for name in names}
    scores = {f"{name}_scores": f"{name}_scores" for name in names}
    rows = {name: name for name in ("features", "split")}
    options = {f"{name}_options": f"params:{name}" for name in names}
    options |= {"space": "params:neighbours", "recommendation": "params:recommendation"}
    tables = {f"{name}_table": f"{name}_assignments_parquet" for name in names}
    recommended = ["recommendation", "recommended_assignments"]
    clusters = ["recommended_clusters_csv", "recommended_clusters_parquet"]
    written = ["comparison", "comparison_report", "comparison_figure"]
    taken = {"recommendation": "recommendation"}
    compared = {**scores, **assigned, **rows, **taken, "evaluation": "params:evaluation"}
    compare = update_wrapper(partial(compare_methods, reported=names if with_reports else ()), compare_methods)
    nodes = [
        Node(recommend, {**rows, **assigned, **options}, recommended, name="recommend", tags="evaluate"),
        Node(pick_table, {**tables, **taken}, clusters, name="pick_table", tags="evaluate"),
        Node(compare, compared, written, name="compare_methods", tags="evaluate"),
    ]
    return Pipeline(
        nodes,
        namespace="evaluation",
        inputs={*rows, *assigned, *scores, *tables.values()},
        outputs={*recommended, *clusters, *written},
        parameters={*options.values(), "params:evaluation"},
    )
