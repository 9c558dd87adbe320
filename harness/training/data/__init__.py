"""Conversations × formats as training examples, and the order in which they are trained."""
