"""Copies of training texts in an answer: an index of fingerprints, and aligned spans."""
