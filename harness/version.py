"""The installed version."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("formatproof")
except PackageNotFoundError:  # a bare checkout on PYTHONPATH
    __version__ = "0.0.0"
