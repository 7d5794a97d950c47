"""Inputs into jobs: files, folders and patterns, and the file that each of them becomes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from glob import has_magic
from itertools import takewhile
from pathlib import Path

from ..errors import HpcmError, UsageError
from ._files import STDIO, exists, is_file, is_folder, or_stdio

__all__ = ["HPCM", "OTHER_PICTURES", "PICTURES", "Job", "Plan", "kinds", "plan"]

HPCM = (".hpcm",)
PICTURES = (
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg"),
    *(".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".tga", ".tif"),
    *(".tiff", ".webp"),
)
# Pictures too, for people: that they cannot be read must not pass in silence.
OTHER_PICTURES = (
    *(".3fr", ".arw", ".bpg", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".exr", ".fff", ".hdr"),
    *(".heic", ".heics", ".heif", ".heifs", ".hif", ".iiq", ".jls", ".jph", ".jxl", ".jxr", ".kdc", ".mef"),
    *(".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".psb", ".raf", ".raw", ".rw2", ".rwl"),
    *(".sr2", ".srf", ".srw", ".wdp", ".x3f", ".xcf"),
)


@dataclass(frozen=True)
class Job:
    """A file to read and the file to write."""

    source: Path
    output: Path


@dataclass(frozen=True)
class Plan:
    """What is to be done. Of `several`, one that fails does not stop the rest."""

    jobs: tuple[Job, ...]  # at least one
    several: bool
    folders: bool  # make those that the outputs need
    unreadable: tuple[tuple[Path, HpcmError], ...] = ()  # folders that could not be searched
    left_out: tuple[Path, ...] = ()  # pictures in folders, of kinds that cannot be read


@dataclass
class _Search:
    """What was found: files, each with its name below an output folder, and what stood in the way."""

    suffixes: Collection[str]
    recursive: bool
    files: list[tuple[Path, Path]] = field(default_factory=list)
    unreadable: list[tuple[Path, HpcmError]] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)

    def add(self, word: Path) -> None:
        """Look for what a word of the command line means."""
        if is_folder(word):
            self._add_folder(word)
        elif _is_pattern(word):
            self._add_pattern(word)
        else:
            self.files.append((word, Path(word.name)))

    def _add_folder(self, base: Path) -> None:
        found, left_out, errors = [], [], list[OSError]()
        for root, folders, names in os.walk(base, onerror=errors.append):
            folders[:] = [name for name in folders if self.recursive and _is_visible(name)]
            for path in (Path(root, name) for name in names if _is_visible(name)):
                suffix = path.suffix.lower()
                if suffix in self.suffixes and _is_source(path):
                    found.append(path)
                elif self.suffixes is PICTURES and suffix in OTHER_PICTURES and _is_source(path):
                    left_out.append(path)
        for error in errors:
            folder = Path(error.filename)
            self.unreadable.append((folder, HpcmError(f"{folder}: {error.strerror}")))
        if not found and not errors:
            what = "no .hpcm files" if self.suffixes == HPCM else "no pictures"
            if left_out:
                raise UsageError(f"{what} that can be read in {base}: {kinds(left_out)} cannot")
            hint = "" if self.recursive else " (-r looks in its folders too)"
            raise UsageError(f"{what} in {base}{hint}")
        self.files += sorted((path, path.relative_to(base)) for path in found)
        self.left_out += sorted(left_out)

    def _add_pattern(self, word: Path) -> None:
        base = Path(*takewhile(lambda part: not has_magic(part), word.parts))
        try:
            names = [path.relative_to(base) for path in base.glob(str(word.relative_to(base)))]
        except ValueError as error:  # `**` within a name
            raise UsageError(f"{word}: {error}") from None
        names = [name for name in names if all(map(_is_visible, name.parts)) and _is_source(base / name)]
        if not names:
            raise UsageError(f"nothing matches {word}")
        self.files += sorted((base / name, name) for name in names)


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
        HpcmError: there is nothing but folders that cannot be searched.
    """
    plain = len(inputs) == 1 and not is_folder(inputs[0]) and not _is_pattern(inputs[0])
    if STDIO in inputs and (len(inputs) > 1 or output_dir):
        raise UsageError("standard input stands alone, and is written with -o or to standard output")
    if output and output_dir:
        raise UsageError("choose one of -o and --output-dir")
    if output and not plain:
        raise UsageError("-o names one file: use --output-dir for several")
    if output_dir and os.path.lexists(output_dir) and not is_folder(output_dir):
        raise HpcmError(f"{output_dir} is not a folder")

    output = output and or_stdio(output)
    search = _Search(suffixes, recursive)
    for word in inputs:
        search.add(word)
    if not search.files:
        raise search.unreadable[0][1]
    found: dict[Path, tuple[Path, Path]] = {}
    for source, name in search.files:
        found.setdefault(Path(os.path.abspath(source)), (source, name))  # noqa: PTH100, links stay
    jobs = []
    for source, name in found.values():
        beside = STDIO if source == STDIO else source.with_suffix(suffix)
        jobs.append(Job(source, output or (output_dir / name.with_suffix(suffix) if output_dir else beside)))
    if len(jobs) > 1:
        _check_outputs(jobs)
    return Plan(
        tuple(jobs),
        several=not plain,
        folders=output_dir is not None,
        unreadable=tuple(search.unreadable),
        left_out=tuple(search.left_out),
    )


def kinds(paths: Sequence[Path]) -> str:
    """How many files of which kinds: 3 .heic, 1 .cr2."""
    counts = Counter(path.suffix.lower() for path in paths)
    return ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))


def _is_pattern(word: Path) -> bool:
    return has_magic(str(word)) and not os.path.lexists(word)


def _is_visible(name: str) -> bool:
    return not name.startswith(".")


def _is_source(path: Path) -> bool:
    """A file, or what should be one: a link that leads nowhere is told, and no named pipe is waited for."""
    return is_file(path) or not exists(path)


def _check_outputs(jobs: list[Job]) -> None:
    sources = {_real(job.source) for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        output = _real(job.output)
        if output in sources:
            raise UsageError(f"{job.output}, the output for {job.source}, is an input: use --output-dir")
        if output in taken:
            raise UsageError(f"{taken[output]} and {job.source} would both become {job.output}")
        taken[output] = job.source


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
