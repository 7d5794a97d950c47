"""`python -m hpcmcodec.training.drawn OUT.tar --count 1500 --seed 1`: drawn pictures in a tar."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ...errors import HpcmError, InterruptedRunError
from . import GROUPS, SPLITS, write_drawn

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tar and return an exit code as `hpcm` does."""
    parser = argparse.ArgumentParser(
        prog="python -m hpcmcodec.training.drawn", description="Write a tar of drawn pictures."
    )
    parser.add_argument("output", type=Path, help="the tar to write")
    parser.add_argument("--count", type=int, default=1500, help="how many pictures (default: 1500)")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds and fonts draw equal pictures")
    parser.add_argument(
        "--fonts", type=Path, metavar="DIR", help="where fonts lie (default: the usual folders)"
    )
    parser.add_argument("--split", choices=SPLITS, default="all", help="a part of the fonts, by family")
    parser.add_argument("--group", choices=GROUPS, default="all", help="text with interfaces, or graphics")
    options = parser.parse_args(arguments)
    try:
        write_drawn(options.output, options.count, options.seed, options.fonts, options.split, options.group)
    except HpcmError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return InterruptedRunError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
