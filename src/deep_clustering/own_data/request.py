"""What the user of `kedro new-data` asks for."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deep_clustering.data.sources.array_files import LAYOUTS
from deep_clustering.data.sources.terms import ANALYZERS
from deep_clustering.options import check_choice
from deep_clustering.own_data.environments import check_name

# Options that belong to one kind of data.
_BELONGS = {
    "column": "text",
    "encoder": "text",
    "separator": "text",
    "header": "text",
    "analyzer": "text",
    "key": "array",
    "size": "images",
    "backbone": "images",
    "backbone_weights": "images",
}

# Options that name columns or arrays, which are one of both. Classes that are numbers may be weights, too.
_APART = (
    ("id_column", "column"),
    ("id_column", "labels"),
    ("id_column", "weights"),
    ("column", "labels"),
    ("key", "labels"),
    ("key", "weights"),
)

# Time that a run may take unless the user says it: of drawings more, whose networks see images and not their features.
_BUDGET, _BUDGET_OF_DRAWINGS = "2m", "10m"

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


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
    separator: str = "auto"
    """Between the cells of the table; auto finds it."""
    header: bool | Literal["auto"] = "auto"
    """Whether the first line names the columns; auto finds it."""
    analyzer: str = "auto"
    """What terms are: word, char, or auto."""
    encoder: str | None = None
    """Of the texts; None takes latent semantic analysis where it can."""
    labels: str | None = None
    """`folders`; a file or a name in the same archive; a column."""
    id_column: str | None = None
    """Column of a table that names the rows; None looks for one."""
    weights: str | None = None
    """How much each row counts: a column of the text's table; a file or a name in the archive of the array."""
    key: str | None = None
    """Name of the array in an archive."""
    layout: str = "auto"
    """Axes of the array."""
    encoding: str = "utf-8"
    """Of the text."""
    size: int | None = None
    """Side of the images; None chooses one."""
    backbone: str | None = None
    """Pretrained network that sees the images."""
    backbone_weights: str | None = None
    """File of its weights, or their name."""
    drawings: bool = False
    """Whether images are drawings, which their pixels tell apart."""
    n_clusters: int | None = None
    """Number of clusters; None takes the number of classes, or a guess."""
    budget: str | None = None
    """Time that a run of the environment may take; None for the usual."""
    force: bool = False
    """Replace an environment of that name."""

    def __post_init__(self) -> None:
        check_name(self.name)
        given = [option for option in ("images", "array", "text") if getattr(self, option) is not None]
        if len(given) != 1:
            got = " and ".join(f"--{option}" for option in given) or "none of them"
            raise ValueError(f"new-data: expected one of --images, --array and --text, got {got}")
        for option, kind in _BELONGS.items():
            if getattr(self, option) not in (None, "auto") and given != [kind]:
                flag = {"header": "no-header"}.get(option, option.replace("_", "-"))
                raise ValueError(f"new-data: --{flag} belongs to --{kind}, got it with --{given[0]}")
        check_choice("new-data: --layout", self.layout, LAYOUTS)
        check_choice("new-data: --analyzer", self.analyzer, ("auto", *ANALYZERS))
        if self.text is not None and self.column is None:
            raise ValueError(
                "new-data: --text needs --column, the name of the column of texts, or its number from 0 in a file"
                " without a header"
            )
        for one, other in _APART:
            name = getattr(self, one)
            if name is not None and getattr(self, other) == name:
                raise ValueError(
                    f"new-data: --{one.replace('_', '-')} and --{other} both got '{name}'; a column is one of them"
                )
        if self.key is not None and self.array is not None and self.array.suffix.lower() == ".npy":
            raise ValueError(
                f"new-data: --key names an array of a .npz or a column of a table, got it with {self.array}"
            )
        if self.images is not None and self.labels not in (None, "folders", "none"):
            raise ValueError(f"new-data: --labels of --images must be folders or none, got '{self.labels}'")
        if self.backbone_weights is not None and self.backbone is None:
            raise ValueError("new-data: --backbone-weights needs --backbone, the name of the network")
        if self.drawings and (self.text is not None or self.backbone is not None):
            other = "--text" if self.text is not None else "--backbone"
            raise ValueError(f"new-data: --drawings takes images by their pixels, got it with {other}")
        if self.encoder is not None:
            from deep_clustering.data.encoders.known import check_encoder

            check_encoder(self.encoder)
        if self.budget is not None:
            parse_budget(self.budget)

    @property
    def seconds(self) -> float:
        """Time that a run of the environment may take."""
        usual = _BUDGET_OF_DRAWINGS if self.drawings else _BUDGET
        return parse_budget(usual if self.budget is None else self.budget)


def parse_budget(text: str) -> float:
    """Seconds of a time such as 120, 90s, 2m or 1.5h.

    Raises:
        ValueError: if it is no such time, or none at all.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*(s|m|h|)", text.strip().lower())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not seconds:
        raise ValueError(f"new-data: --budget must be a time such as 120, 90s, 2m or 1h, got '{text}'")
    return seconds
