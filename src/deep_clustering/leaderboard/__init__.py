"""The leaderboard: runs with several seeds, summarised with their uncertainty."""

from deep_clustering.leaderboard.files import write_files
from deep_clustering.leaderboard.markdown import replace_in_readme, to_markdown
from deep_clustering.leaderboard.runs import read_runs
from deep_clustering.leaderboard.table import make_leaderboard

__all__ = ["make_leaderboard", "read_runs", "replace_in_readme", "to_markdown", "write_files"]
