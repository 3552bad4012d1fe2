"""Reporting pipelines: a page per method, and a comparison of methods."""

from kedro.pipeline import Node, Pipeline

from deep_clustering.pipelines.reporting.nodes import compare_methods, pick_members, project, report


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
    """The scores of several methods to one table and one page.

    Args:
        names: Their namespaces.

    Returns:
        The node `compare_methods` in the namespace `evaluation`.
    """
    scores = {name: f"{name}_scores" for name in names}
    outputs = ["comparison", "comparison_report"]
    node = Node(compare_methods, scores, outputs, name="compare_methods", tags="evaluate")
    return Pipeline([node], namespace="evaluation", inputs=set(scores.values()), outputs=set(outputs))
