"""Pages and pictures without a drawing, which is most of a small run, for tests about what is around them."""

import pytest
from matplotlib.figure import Figure


def spare_drawing(patch: pytest.MonkeyPatch) -> None:
    """Let the page of a run be a beginning, and its pictures be empty; the page of a comparison is written as ever."""
    patch.setattr("deep_clustering.reporting.page.write_report", lambda **_: "<!DOCTYPE html>")
    patch.setattr("deep_clustering.reporting.pictures.draw_pictures", lambda *_: [Figure() for _ in range(3)])
