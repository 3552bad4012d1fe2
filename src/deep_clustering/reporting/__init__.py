"""Self-contained HTML reports of clustering runs: figures, member galleries, pages."""

from deep_clustering.reporting.comparison import write_comparison
from deep_clustering.reporting.hover import pick_shown
from deep_clustering.reporting.members import certainty, select_members
from deep_clustering.reporting.page import write_report
from deep_clustering.reporting.projection import project_latent

__all__ = ["certainty", "pick_shown", "project_latent", "select_members", "write_comparison", "write_report"]
