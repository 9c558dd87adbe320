"""The language of a text: its scripts, and a detector that works on windows of words."""
