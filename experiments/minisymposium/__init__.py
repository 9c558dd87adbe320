"""The experiment of docs/minisymposium.md: the runs of a study file on one base, and what they show."""
