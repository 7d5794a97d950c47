"""Inputs into jobs: files, folders and patterns, and the file that each of them becomes."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from glob import has_magic
from itertools import takewhile
from pathlib import Path

from ..errors import HpcmError, UsageError
from ._files import STDIO

__all__ = ["HPCM", "PICTURES", "Job", "Plan", "plan"]

HPCM = (".hpcm",)
PICTURES = (
    *(".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm"),
    *(".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)


@dataclass(frozen=True)
class Job:
    """A file to read and the file to write."""

    source: Path
    output: Path


@dataclass(frozen=True)
class Plan:
    """What is to be done. Of `several`, one that fails does not stop the rest."""

    jobs: tuple[Job, ...]
    several: bool
    folders: bool  # make those that the outputs need


def plan(
    inputs: Sequence[Path],
    suffixes: Collection[str],
    suffix: str,
    output: Path | None,
    output_dir: Path | None,
    recursive: bool,
) -> Plan:
    """Find what the words of a command line mean.

    Args:
        inputs: files, folders, patterns such as `photos/*.jpg`, or `-` alone.
        suffixes: of the files that count in a folder, in lower case. suffix: of what is written.
        output: the one file to write. output_dir: the folder to write below; else beside the input.

    Raises:
        UsageError: the words contradict each other, name nothing, or lead to an output that would take the
            place of another or of an input.
    """
    plain = len(inputs) == 1 and not inputs[0].is_dir() and not _is_pattern(inputs[0])
    if STDIO in inputs and (len(inputs) > 1 or output_dir):
        raise UsageError("standard input stands alone, and is written with -o or to standard output")
    if output and output_dir:
        raise UsageError("choose one of -o and --output-dir")
    if output and not plain:
        raise UsageError("-o names one file: use --output-dir for several")
    if output_dir and output_dir.exists() and not output_dir.is_dir():
        raise HpcmError(f"{output_dir} is not a folder")

    found: dict[Path, tuple[Path, Path]] = {}
    for word in inputs:
        for source, name in _find(word, suffixes, recursive):
            found.setdefault(Path(os.path.abspath(source)), (source, name))  # noqa: PTH100, links stay
    jobs = []
    for source, name in found.values():
        beside = STDIO if source == STDIO else source.with_suffix(suffix)
        jobs.append(Job(source, output or (output_dir / name.with_suffix(suffix) if output_dir else beside)))
    if len(jobs) > 1:
        _check_outputs(jobs)
    return Plan(tuple(jobs), several=not plain, folders=output_dir is not None)


def _is_pattern(word: Path) -> bool:
    return has_magic(str(word)) and not word.exists()


def _find(word: Path, suffixes: Collection[str], recursive: bool) -> list[tuple[Path, Path]]:
    """Files, each with its name below an output folder."""
    if word.is_dir():
        base = word
        paths = word.rglob("*") if recursive else word.iterdir()
        names = [path.relative_to(base) for path in paths if path.suffix.lower() in suffixes]
    elif _is_pattern(word):
        base = Path(*takewhile(lambda part: not has_magic(part), word.parts))
        try:
            names = [path.relative_to(base) for path in base.glob(str(word.relative_to(base)))]
        except ValueError as error:  # `**` within a name
            raise UsageError(f"{word}: {error}") from None
    else:
        return [(word, Path(word.name))]
    names = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    names = sorted(name for name in names if (base / name).is_file())
    if not names:
        hint = " (-r looks in its folders too)" if word.is_dir() and not recursive else ""
        what = "no .hpcm files" if suffixes == HPCM else "no pictures"
        raise UsageError(f"{what} in {word}{hint}" if word.is_dir() else f"nothing matches {word}")
    return [(base / name, name) for name in names]


def _check_outputs(jobs: list[Job]) -> None:
    sources = {job.source.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        output = job.output.resolve()
        if output in sources:
            raise UsageError(f"{job.output}, the output for {job.source}, is an input: use --output-dir")
        if output in taken:
            raise UsageError(f"{taken[output]} and {job.source} would both become {job.output}")
        taken[output] = job.source
