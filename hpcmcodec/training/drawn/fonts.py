"""The fonts of a machine that hold Latin letters, by family, and words set in them."""

from __future__ import annotations

import importlib.util
import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

from PIL import ImageFont

__all__ = ["SPLITS", "Face", "Fonts"]

FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
    "C:/Windows/Fonts",
    "~/.local/share/fonts",
    "~/Library/Fonts",
)
SUFFIXES = {".otf", ".ttc", ".ttf"}
# Which fonts are drawn with: every one, or a quarter of them, or the others.
SPLITS = ("all", "train", "val")
QUARTER, HELD_OUT = 4, 2
NEEDED = "éßagkxQRW0158.,%("
# What says how heavy or wide a face is, not of which family. Fonts whose letters are pictures.
WEIGHTS = {"Black", "Bold", "Book", "Condensed", "Extra", "Light", "Medium", "Semi", "SemiBold", "Thin"}
SIGNS = ("D050000L", "Dingbats", "Humor", "Initials", "Keyboard", "Math", "STIXNon", "STIXSiz", "Symbol")


@dataclass(frozen=True)
class Face:
    """One file of a family. Without a path it is the font that Pillow carries."""

    family: str
    style: str
    path: Path | None = None
    mono: bool = False

    def at(self, size: float) -> ImageFont.FreeTypeFont:
        return _load(self.path, size)


@lru_cache(maxsize=256)
def _load(path: Path | None, size: float) -> ImageFont.FreeTypeFont:
    if path is None:
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont)
        return font
    # Raqm may be there or not, and sets words otherwise.
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def _glyph(font: ImageFont.FreeTypeFont, letter: str) -> bytes:
    return bytes(font.getmask(letter))


@cache
def _face(path: Path) -> Face | None:
    """The font in a file, if it holds every letter that is needed, each with a shape of its own."""
    try:
        font = _load(path, 20)
        family, style = (name or "" for name in font.getname())
        if any(sign in family for sign in SIGNS):
            return None
        missing = _glyph(font, "\uffff")
        shapes = [_glyph(font, letter) for letter in NEEDED]
        if missing in shapes or len(set(shapes)) < len(shapes) or not all(map(any, shapes)):
            return None
        mono = font.getlength("i") == font.getlength("W") == font.getlength("é")
    except (OSError, ValueError):
        return None
    words = [word for word in family.split() if word not in WEIGHTS][:2]
    return Face(" ".join(words) or path.stem, style, path, mono)


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (file for file in sorted(folder.rglob("*")) if file.suffix.lower() in SUFFIXES)


def _folders() -> list[Path]:
    folders = [Path(folder).expanduser() for folder in FOLDERS]
    package = importlib.util.find_spec("matplotlib")
    if package and package.origin:
        folders.append(Path(package.origin).parent / "mpl-data" / "fonts" / "ttf")
    return folders


@dataclass
class Fonts:
    """Faces by family. Equal faces in other folders draw equal pictures."""

    families: dict[str, list[Face]] = field(default_factory=dict)

    @classmethod
    def found(cls, folder: Path | None = None, split: str = "all") -> Fonts:
        """The fonts below a folder, or in this machine's usual ones; without any, the one of Pillow.

        Args:
            split: "train" or "val" for a part of the families, which share none; "all" for every one. The
                first word of its name says which part a family is of: "Noto Sans" goes with "Noto Serif".
        """
        families: dict[str, dict[tuple[str, bool], Face]] = {}
        for path in _files([folder] if folder else _folders()):
            face = _face(path)
            if face and (split == "all" or (split == "val") == _is_validation(face.family)):
                families.setdefault(face.family, {}).setdefault((face.style, face.mono), face)
        return cls(
            {family: [faces[key] for key in sorted(faces)] for family, faces in sorted(families.items())}
        )

    def choose(self, dice: random.Random, mono: bool = False, plain: bool = False) -> Face:
        """A random face of a random family.

        Args:
            mono: one whose letters are all as wide, if there is one.
            plain: neither italic nor bold nor condensed.
        """
        fitting = {
            family: kept
            for family, faces in self.families.items()
            if (kept := [f for f in faces if f.mono >= mono and (not plain or _is_plain(f))])
        }
        if not fitting:
            return self.choose(dice, False, plain) if mono else Face("Pillow", "Regular")
        return dice.choice(fitting[dice.choice(sorted(fitting))])


def _is_validation(family: str) -> bool:
    return zlib.crc32(family.split()[0].encode()) % QUARTER == HELD_OUT


def _is_plain(face: Face) -> bool:
    return face.style.lower() in ("regular", "book", "roman", "medium", "text", "normal")
