"""The leaderboard: runs with several seeds, summarised with their uncertainty."""

from deep_clustering.sweep.leaderboard.consensus_files import write_consensus
from deep_clustering.sweep.leaderboard.consensus_groups import ConsensusRequest
from deep_clustering.sweep.leaderboard.files import write_files
from deep_clustering.sweep.leaderboard.markdown import replace_in_readme, to_brief_markdown, to_markdown
from deep_clustering.sweep.leaderboard.runs import read_runs
from deep_clustering.sweep.leaderboard.table import make_leaderboard

__all__ = [
    "ConsensusRequest",
    "make_leaderboard",
    "read_runs",
    "replace_in_readme",
    "to_brief_markdown",
    "to_markdown",
    "write_consensus",
    "write_files",
]
