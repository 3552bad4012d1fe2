"""What is said of a clustering in figures."""
