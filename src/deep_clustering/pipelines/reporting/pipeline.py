"""Reporting pipelines: a page per method, and a comparison of methods."""

from kedro.pipeline import Node, Pipeline

from deep_clustering.pipelines.reporting.nodes import compare_methods, pick_members, project, report


def create_pipeline(name: str) -> Pipeline:
    """A method's scores and representation to its page.

    Args:
        name: The method's namespace.

    Returns:
        The nodes `<name>.project`, `<name>.pick_members` and `<name>.report`.
    """
    nodes = [
        Node(
            project,
            ["assignments", "representation", "samples", "labels", "params:reporting"],
            "map",
            name="project",
            tags="evaluate",
        ),
        Node(
            pick_members,
            ["assignments", "representation", "samples", "params:reporting"],
            "gallery",
            name="pick_members",
            tags="evaluate",
        ),
        Node(report, ["scores", "map", "gallery", "data_card"], "report", name="report", tags="evaluate"),
    ]
    return Pipeline(
        nodes,
        namespace=name,
        inputs={"samples": "samples", "labels": "labels", "data_card": "data_card", "scores": f"{name}_scores"},
        parameters={"params:reporting"},
    )


def create_comparison(names: list[str]) -> Pipeline:
    """The scores of several methods to one table and one page.

    Args:
        names: Their namespaces.

    Returns:
        The node `compare_methods`.
    """
    scores = {name: f"{name}_scores" for name in names}
    outputs = ["comparison", "comparison_report"]
    return Pipeline([Node(compare_methods, scores, outputs, name="compare_methods", tags="evaluate")])
