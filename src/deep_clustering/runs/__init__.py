"""What is tracked of a run, and what is done with tracked runs."""
