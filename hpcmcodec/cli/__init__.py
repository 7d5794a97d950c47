"""The command line `hpcm`: parse, call, print. One file per command; heavy imports wait for their use."""

from .app import app, main, run

__all__ = ["app", "main", "run"]
