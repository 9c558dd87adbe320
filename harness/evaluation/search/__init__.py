"""Evaluations on a budget: a balanced sample, or the search for the best and worst format."""
