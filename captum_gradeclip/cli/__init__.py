"""The command ``gradeclip``: the same road from the shell, one file for each command."""

from .main import main

__all__ = ["main"]
