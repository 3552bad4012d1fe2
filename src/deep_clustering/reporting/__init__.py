"""Self-contained HTML reports of clustering runs: figures, member galleries, pages; and tables as text."""
