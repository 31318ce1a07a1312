"""The version, read from here by pyproject.toml too."""

__version__ = "0.1.0"
