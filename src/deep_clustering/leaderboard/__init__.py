"""The leaderboard: runs with several seeds, summarised with their uncertainty."""

from deep_clustering.leaderboard.consensus import ConsensusRequest
from deep_clustering.leaderboard.consensus_files import write_consensus
from deep_clustering.leaderboard.files import write_files
from deep_clustering.leaderboard.markdown import replace_in_readme, to_markdown
from deep_clustering.leaderboard.runs import read_runs
from deep_clustering.leaderboard.table import make_leaderboard

__all__ = [
    "ConsensusRequest",
    "make_leaderboard",
    "read_runs",
    "replace_in_readme",
    "to_markdown",
    "write_consensus",
    "write_files",
]
