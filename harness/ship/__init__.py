"""Ship a model: make what each runtime needs, and check it against what was trained."""
