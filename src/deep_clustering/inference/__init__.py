"""From new rows of anybody to clusters."""
