"""The experiment of docs/minisymposium.md: the runs of a study file on one base, and their results.

It runs from a checkout: ``python -m experiments.minisymposium``.
"""
