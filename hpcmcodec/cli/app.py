"""The application: its commands, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from .. import __version__
from ..errors import HpcmError
from . import bench, compare, decode, encode, export, info, models, selftest, train
from ._explain import explain

__all__ = ["app", "main", "run"]

INTERRUPTED = 130

app = typer.Typer(
    name="hpcm",
    help="A learned image codec: photos to .hpcm files, far smaller than JPEG at the same quality, and back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (encode, decode, info, models, bench, compare, selftest, train, export):
    name = command.__name__.rpartition(".")[2]
    app.command(name)(getattr(command, name))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hpcm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error comes from, not just what it is.")
    ] = False,
) -> None:
    """What holds for every command; both act before this is called."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 failure, 2 usage, 3 corrupt file,
    4 weights or model mismatch, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words  # wherever it stands: it is added to the end of what just failed
    words = [word for word in words if word != "--debug"]
    try:
        with warnings.catch_warnings():
            if not debug:
                warnings.simplefilter("ignore")
            code = app(words, prog_name="hpcm", standalone_mode=False) or 0
        if code != INTERRUPTED:
            return code
        line = "interrupted"
    except (KeyboardInterrupt, typer.Abort):  # typer returns or raises, by version
        line, code = "interrupted", INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`hpcm models | head`); keep the interpreter's last flush from saying so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return HpcmError.exit_code
    except Exception as error:
        if debug:
            traceback.print_exc()
        line, code = explain(error)
    if line:  # `hpcm` alone has printed its help
        print(f"hpcm: {' '.join(line.split())}", file=sys.stderr)
    return code


def run() -> NoReturn:
    """The command `hpcm`: `main`, then leave at once, because taking torch down takes half a second."""
    code = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # a full disk or a reader that has gone: what was promised is not all there
            code = code or HpcmError.exit_code
    os._exit(code)
