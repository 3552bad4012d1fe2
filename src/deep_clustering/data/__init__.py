"""From files to the rows that every method gets."""
