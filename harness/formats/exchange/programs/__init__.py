"""How other programs write a format, a file each: our formats in their words, and their words read."""
