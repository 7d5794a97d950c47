"""`python -m hpcmcodec` is `hpcm`."""

from .cli import run

run()
