"""The results file: one SQLite database of everything asked, answered and scored."""
