"""A sweep: many fits by one command, each a cell with its own folder and record, and the leaderboard of them all."""
