"""Objectives with a teacher: answers of its own, soft targets across formats, consistency."""
