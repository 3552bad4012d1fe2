"""How a network is trained: rows, views, networks, the loop and what it keeps; it knows no method."""
