"""`python -m hpcmcodec` is `hpcm`."""

from .cli import run

if __name__ == "__main__":
    run()
