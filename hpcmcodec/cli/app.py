"""The application: its commands, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from .. import __version__
from ..errors import HpcmError, UsageError
from . import _signals, _streams, bench, compare, decode, encode, export, info, models, selftest, train
from ._explain import explain

__all__ = ["app", "main"]

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
    """Run the command line and return its exit code.

    0 done, 1 failure, 2 usage, 3 corrupt file, 4 weights or model mismatch; 130, 143 and 129 if SIGINT,
    SIGTERM or SIGHUP has ended it.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words  # wherever it stands: it is added to the end of what just failed
    words = [word for word in words if word != "--debug"]
    try:
        _check_words(words)
        with warnings.catch_warnings():
            if not debug:
                warnings.simplefilter("ignore")
            # Not `app(words)`, which turns some exceptions into others and exits on its own.
            command = typer.main.get_command(app)
            with command.make_context("hpcm", words) as context:
                command.invoke(context)
        return 0
    except typer.Exit as end:
        return end.exit_code
    except BrokenPipeError:  # the reader has gone (`hpcm models | head`), and knows it
        _streams.silence(sys.stdout.fileno())
        return HpcmError.exit_code
    except KeyboardInterrupt:
        line, code = _signals.verdict()
    except Exception as error:
        if debug:
            with suppress(OSError):
                traceback.print_exc()
        line, code = explain(error)
    if line:  # `hpcm` alone has printed its help
        _streams.complain(line)
    return code


def _check_words(words: Sequence[str]) -> None:
    """An empty word would be taken for the current folder, as all words that name files."""
    for before, word in zip(["hpcm", *words], words, strict=False):
        if not word or re.fullmatch(r"--[a-z-]+=", word):
            where = word if word else f"what follows {before}"
            raise UsageError(f"{where} is empty: is a variable not set?")
