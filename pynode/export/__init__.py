"""Fields and models for places without Python."""

from pynode.export.c_file import Exported, c

__all__ = ["Exported", "c"]
