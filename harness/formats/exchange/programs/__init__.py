"""How other programs write a format: a writer and a reader for each."""
