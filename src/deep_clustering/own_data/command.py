"""What `kedro new-data` does: look at data, write an environment that suits it, and say what to type next."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deep_clustering.data.sources.array_files import LAYOUTS, is_sparse_file
from deep_clustering.data.sources.loading import make_source
from deep_clustering.options import check_choice
from deep_clustering.own_data.environments import Environment, check_name, write_environment
from deep_clustering.own_data.look import Look, look_at_array, look_at_images, look_at_sparse, look_at_text


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asks for; one of images, array and text."""

    name: str
    """Name of the new environment."""
    images: Path | None = None
    """Folder of images."""
    array: Path | None = None
    """File of an array, dense or sparse."""
    text: Path | None = None
    """Table with a column of texts."""
    column: str | None = None
    """That column."""
    labels: str | None = None
    """`folders`; a file or a name in the same archive; a column."""
    key: str | None = None
    """Name of the array in an archive."""
    layout: str = "auto"
    """Axes of the array."""
    encoding: str = "utf-8"
    """Of the text."""
    size: int | None = None
    """Side of the images; None chooses one."""
    n_clusters: int | None = None
    """Number of clusters; None takes the number of classes, or a guess."""
    force: bool = False
    """Replace an environment of that name."""

    def __post_init__(self) -> None:
        check_name(self.name)
        given = [option for option in ("images", "array", "text") if getattr(self, option) is not None]
        if len(given) != 1:
            got = " and ".join(f"--{option}" for option in given) or "none of them"
            raise ValueError(f"new-data: expected one of --images, --array and --text, got {got}")
        needs = {"column": "text", "key": "array", "size": "images"}
        for option, kind in needs.items():
            if getattr(self, option) is not None and given != [kind]:
                raise ValueError(f"new-data: --{option} belongs to --{kind}, got it with --{given[0]}")
        check_choice("new-data: --layout", self.layout, LAYOUTS)
        if self.text is not None and self.column is None:
            raise ValueError("new-data: --text needs --column, the name of the column of texts")
        if self.images is not None and self.labels not in (None, "folders", "none"):
            raise ValueError(f"new-data: --labels of --images must be folders or none, got '{self.labels}'")


def new_data(request: Request, conf: Path) -> str:
    """Look at data and write its environment.

    Args:
        request: What the user asks for.
        conf: The folder of environments.

    Returns:
        What was seen, what was written, and the command to type next.

    Raises:
        FileNotFoundError: if the data is missing.
        FileExistsError: if there is such an environment already, and it may not be replaced.
        ValueError: if the data cannot be clustered, or the request contradicts itself.
    """
    look = _look(request)
    make_source(look.source)
    n_clusters, why = _n_clusters(request, look)
    environment = Environment(
        name=request.name,
        n_clusters=n_clusters,
        source=look.source,
        features=look.features,
        views=look.views,
        encoder=look.encoder,
        n_samples=look.n_samples,
        is_sparse=look.is_sparse,
    )
    written = write_environment(environment, conf, replace=request.force)
    classes = f"{look.n_classes} classes" if look.n_classes else "none: not needed, they only serve to score a result"
    lines = [
        *look.preview,
        ("labels", classes),
        ("clusters", f"{n_clusters} ({why})"),
        ("views", _in_words(look.views)),
        ("encoder", _in_words(look.encoder)),
        ("written", ", ".join(path.as_posix() for path in written)),
    ]
    return "\n".join(
        [
            *(f"{what:<12}{value}" for what, value in lines),
            "",
            "Edit these files as you like. The other method is --pipelines=neural_mixture. Next, type:",
            f"kedro run --env={request.name} --pipelines=dcan",
        ]
    )


def _look(request: Request) -> Look:
    if request.images is not None:
        return look_at_images(request.name, request.images, request.size, request.labels or "none")
    if request.text is not None:
        assert request.column is not None
        return look_at_text(request.name, request.text, request.column, request.encoding, request.labels)
    assert request.array is not None
    if is_sparse_file(request.array):
        return look_at_sparse(request.name, request.array, request.labels)
    return look_at_array(request.name, request.array, request.key, request.layout, request.labels)


def _n_clusters(request: Request, look: Look) -> tuple[int, str]:
    if look.n_samples < 2:
        raise ValueError(f"new-data: clustering needs at least 2 rows, got {look.n_samples}")
    if request.n_clusters is not None:
        if not 2 <= request.n_clusters <= look.n_samples:
            raise ValueError(f"new-data: --n-clusters must be 2 to {look.n_samples}, got {request.n_clusters}")
        return request.n_clusters, "as asked for"
    if look.n_classes is not None and look.n_classes >= 2:
        return look.n_classes, "one for each class"
    return min(10, max(2, look.n_samples // 5)), "a guess: set it with --n-clusters, or in globals.yml"


def _in_words(options: dict[str, Any]) -> str:
    return ", ".join([options["kind"], *(f"{name} {value}" for name, value in options.items() if name != "kind")])
