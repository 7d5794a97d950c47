"""The command line `hpcm`: parse, call, print. One file per command; heavy imports wait for their use.

All imports wait here, because a Ctrl-C that comes before `run` ends in a traceback.
"""

from __future__ import annotations

import os

# For type checkers alone.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["main", "run"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line in this process and return its exit code; see `hpcmcodec.cli.app.main`."""
    from .app import main

    return main(arguments)


def run() -> NoReturn:
    """The command `hpcm`: `main` in a process of its own, with signals and standard streams seen to.

    It leaves at once in the end, because taking torch down takes half a second.
    """
    try:
        from . import _signals

        _signals.listen()
    except KeyboardInterrupt:  # raised by Python, until ours is listening
        os.write(2, b"hpcm: interrupted\n")
        os._exit(130)
    from . import _explain, _streams

    try:
        _streams.mend()
        code = _streams.finish(main())
    except KeyboardInterrupt:  # between what takes it in `main` and the end
        line, code = _signals.verdict()
        _streams.complain(line)
    except Exception as error:  # as too little memory to import the application
        line, code = _explain.explain(error)
        _streams.complain(line)
    os._exit(code)
