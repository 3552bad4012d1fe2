"""Figures as pictures: what Kedro-Viz shows when somebody clicks an entry.

The class of kedro-datasets imports pyplot and closes every figure that is open in the process, those of a notebook
included, and cannot load what it saved. This one does neither, and its file depends on the figure alone.
"""

import base64
from typing import IO, Any

import numpy as np

from deep_clustering.data.datasets.base import FileDataset, ImagePreview, if_saved

_DPI = 150


class FigureDataset(FileDataset):
    """A matplotlib.figure.Figure as `.png`; it is loaded as pixels, shape (height, width, 3), uint8."""

    kind = "a picture (.png)"

    def _encode(self, data: Any, file: IO[bytes]) -> None:  # noqa: ANN401
        from matplotlib.figure import Figure

        if not isinstance(data, Figure):
            raise TypeError(f"expected a matplotlib figure, got {type(data).__name__}")
        data.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})

    def _decode(self, file: IO[bytes]) -> np.ndarray:
        from PIL import Image

        with Image.open(file, formats=["PNG"]) as image:
            return np.asarray(image.convert("RGB"))

    @if_saved
    def preview(self) -> ImagePreview:
        """The picture, for Kedro-Viz."""
        with self._fs.open(str(self._get_load_path()), "rb") as file:
            return ImagePreview(base64.b64encode(file.read()).decode())
