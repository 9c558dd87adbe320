"""Which checkpoint to take: measuring, early stopping, the turning point, the best one."""
