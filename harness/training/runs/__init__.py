"""A run's folder: checkpoints, lock, metrics log, branches and trackers."""
