"""`hpcm selftest`: does this machine decode what others encode?"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..errors import ModelMismatchError, UsageError
from ._options import Device, DeviceOption, Json, Threads, Weights, use_threads
from ._show import note, working

__all__ = ["selftest"]


def selftest(
    phase: Annotated[int | None, typer.Option(help="Only this phase.", show_default="all")] = None,
    weights: Weights = None,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Check that this machine computes, bit for bit, what files are decoded by."""
    use_threads(threads)
    with working("computing"):
        from .. import zoo
        from ..ops.exact import no_native
        from ..selftest import selftest as run

        if weights is not None:
            configs = [zoo.config_of(weights)]
        else:
            configs = [c for c in zoo.available() if phase is None or c.phase == phase]
        if not configs:
            raise UsageError(
                "there are no weights to test" + ("" if phase is None else f" for phase {phase}")
            )
        outcomes = [run(config, weights, device.value) for config in configs]
    if as_json:
        rows = [
            {"model": o.config.name, "passed": o.passed, "here": o.here, "stored": o.stored} for o in outcomes
        ]
        typer.echo(json.dumps(rows, indent=2))
    else:
        for o in outcomes:
            typer.echo(f"{o.config.name}  {o.here}  {'ok' if o.passed else f'NOT {o.stored}'}")
    if device is not Device.cuda and no_native():
        note(f"hpcm: note: without native kernels coding takes about twice as long: {no_native()}")
    failed = [o.config.name for o in outcomes if not o.passed]
    if failed:
        raise ModelMismatchError(
            f"this machine computes something else for {', '.join(failed)}:"
            " files made elsewhere will not decode here"
        )
