"""Are the weights that are shipped those that were trained? Recomputed from the adapter's files."""
