"""Check that a runtime sends the texts and ids that were trained, and ends answers where they do.

``runtime_checks.py`` has a function for each runtime.
"""
