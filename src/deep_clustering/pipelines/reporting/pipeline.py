"""Reporting pipelines: a page per method, and a comparison of methods."""

from kedro.pipeline import Node, Pipeline

from deep_clustering.pipelines.reporting.nodes import compare_methods, pick_members, project, recommend, report


def create_pipeline(name: str) -> Pipeline:
    """A method's scores and representation to its page.

    Args:
        name: The method's namespace.

    Returns:
        The nodes `project_<name>`, `pick_members_<name>` and `report_<name>` in the namespace `evaluation`.
    """
    assigned = [f"{name}_assignments", f"{name}_representation", "samples"]
    scores, map_, gallery, page = (f"{name}_{output}" for output in ("scores", "map", "gallery", "report"))
    seen = ["vocabulary", "params:reporting"]
    names = f"{name}_cluster_names"
    written = [scores, map_, gallery, "data_card", names, f"params:{name}"]
    nodes = [
        Node(project, [*assigned, "labels", *seen], map_, name=f"project_{name}", tags="evaluate"),
        Node(pick_members, [*assigned, *seen], gallery, name=f"pick_members_{name}", tags="evaluate"),
        Node(report, written, page, name=f"report_{name}", tags="evaluate"),
    ]
    return Pipeline(
        nodes,
        namespace="evaluation",
        inputs={*assigned, "labels", "vocabulary", "data_card", names, scores},
        outputs={map_, gallery, page},
        parameters={"params:reporting", f"params:{name}"},
    )


def create_comparison(names: list[str]) -> Pipeline:
    """What several methods say of the rows to one of them that is recommended, a table and a page.

    Args:
        names: Their namespaces.

    Returns:
        The nodes `recommend`, which never sees labels, and `compare_methods` in the namespace `evaluation`. They name
        what they take of each method `<name>_<what>`, so that they can do without a method that failed.
    """
    assigned = {f"{name}_assignments": f"{name}_assignments" for name in names}
    scores = {f"{name}_scores": f"{name}_scores" for name in names}
    rows = {name: name for name in ("features", "split", "neighbours")}
    options = {f"{name}_options": f"params:{name}" for name in names}
    options |= {"space": "params:neighbours", "recommendation": "params:recommendation"}
    recommended = ["recommendation", "recommended_assignments"]
    written = ["comparison", "comparison_report"]
    given = {**scores, "recommendation": "recommendation"}
    nodes = [
        Node(recommend, {**rows, **assigned, **options}, recommended, name="recommend", tags="evaluate"),
        Node(compare_methods, given, written, name="compare_methods", tags="evaluate"),
    ]
    return Pipeline(
        nodes,
        namespace="evaluation",
        inputs={*rows, *assigned, *scores},
        outputs={*recommended, *written},
        parameters=set(options.values()),
    )
