"""Every architecture, tiny and random, through every step (``tox -e zoo``)."""
