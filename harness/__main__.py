"""``python -m harness``."""

from harness.cli.main import entry

if __name__ == "__main__":
    entry()
