"""Words, sentences, numbers and lines of code that look real."""

from __future__ import annotations

import random

__all__ = ["code_line", "log_line", "name", "number", "paragraph", "sentence", "title", "word"]


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ENGLISH = _split(
    "the of and to in a is that it was for on are as with his they at be this from have or by one had not "
    "but what all were when we there can an your which their said if do will each about how up out them "
    "then she many some so these would other into has more her two like him see time could no make than "
    "first been its who now people my made over did down only way find use may water long little very "
    "after words called just where most know light evening garden street harbour winter machine question "
    "answer window language paper measure picture weather kitchen journey mountain bridge market station "
    "letter morning history science government development information management education international "
    "performance environment"
)
GERMAN = _split(
    "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden "
    "aus er hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur "
    "oder aber vor zur bis mehr durch man sein wurde wenn können schon Straße größer Übung Bücher "
    "Gespräch Fenster Zeitung Möglichkeit Wissenschaft Geschwindigkeit Frühling Gemüse Schlüssel Brücke "
    "Wörterbuch außerdem natürlich"
)
FRENCH = _split(
    "le de un à être et en avoir que pour dans ce il qui ne sur se pas plus par je avec tout faire son "
    "mettre autre on mais nous comme ou si leur y dire elle devoir avant deux même prendre aussi celui "
    "donner bien où fois vous encore nouveau aller cela entre premier vouloir déjà grand mon moins "
    "fenêtre français école été lumière forêt théâtre rivière gâteau leçon maïs garçon déjeuner hôpital "
    "bibliothèque développement"
)
SPANISH = _split(
    "de la que el en y a los se del las un por con no una su para es al lo como más o pero sus le ha me "
    "si sin sobre este ya entre cuando todo esta ser son dos también fue había era muy años hasta desde "
    "está mi porque qué sólo han yo hay vez puede todos así nos ni parte tiene él uno donde bien tiempo "
    "mismo ese ahora cada vida otro después te otros aunque esa eso hace otra gobierno siempre mañana "
    "corazón país niño canción"
)
LANGUAGES = (ENGLISH, GERMAN, FRENCH, SPANISH)
LANGUAGE_WEIGHTS = (6, 2, 1.5, 1.5)
NAMES = _split(
    "file edit view insert format tools window help open save close settings account profile search "
    "filter home back next cancel apply delete share export import print copy paste undo redo select "
    "refresh update sign language network sound display battery storage privacy security version status "
    "progress total average messages contacts calendar photos music videos documents downloads desktop "
    "trash inbox sent drafts archive january february march april may june july august september october "
    "november december monday tuesday revenue users sessions orders price quantity discount customer "
    "invoice payment delivery address city"
)
KEYWORDS = _split(
    "if for while return import from class def in not and or else with try const let var static void int"
)
PARTS = _split(
    "get set read write buffer index count size name value node list item key path data input output offset"
)
LEVELS = ("INFO", "DEBUG", "WARN", "ERROR")


def _language(dice: random.Random) -> tuple[str, ...]:
    return dice.choices(LANGUAGES, LANGUAGE_WEIGHTS)[0]


def word(dice: random.Random) -> str:
    return dice.choice(_language(dice))


def number(dice: random.Random) -> str:
    """A number, price, date, time, share or size."""
    whole, part = dice.randrange(10 ** dice.randint(1, 5)), dice.randrange(100)
    return dice.choice(
        (
            str(whole),
            f"{whole:,}",
            f"{whole}.{part:02d}",
            f"${whole:,}.{part:02d}",
            f"{part}%",
            f"{part % 24:02d}:{whole % 60:02d}",
            f"{1900 + part}-{1 + whole % 12:02d}-{1 + part % 28:02d}",
            f"-{whole % 1000}.{part % 10}",
            f"{whole % 1000} kB",
            f"({whole % 1000}) {part:02d}-{whole % 97:02d}",
        )
    )


def name(dice: random.Random, most: int = 2) -> str:
    """What stands on a button, in a menu or at a column."""
    words = [dice.choice(NAMES) for _ in range(dice.randint(1, most))]
    words[0] = words[0].capitalize()
    return " ".join(words)


def title(dice: random.Random, most: int = 6) -> str:
    words = _language(dice)
    chosen = [dice.choice(words) for _ in range(dice.randint(2, most))]
    return " ".join(w.capitalize() for w in chosen) if dice.random() < 0.5 else " ".join(chosen).capitalize()


def _sentence(dice: random.Random, words: tuple[str, ...]) -> str:
    chosen = [dice.choice(words) for _ in range(dice.randint(3, 18))]
    for place in range(1, len(chosen) - 1):
        chance = dice.random()
        if chance < 0.08:
            chosen[place] += ","
        elif chance < 0.12:
            chosen[place] = number(dice)
        elif chance < 0.14:
            chosen[place] = f"({chosen[place]})"
        elif chance < 0.16:
            chosen[place] = f'"{chosen[place].capitalize()}"'
    chosen[0] = chosen[0].capitalize()
    return " ".join(chosen) + dice.choices(".?!:", (8, 1, 1, 1))[0]


def sentence(dice: random.Random) -> str:
    return _sentence(dice, _language(dice))


def paragraph(dice: random.Random, letters: int) -> str:
    """Sentences of one language, at least so many letters."""
    words, text = _language(dice), ""
    while len(text) < letters:
        text += _sentence(dice, words) + " "
    return text


def _identifier(dice: random.Random) -> str:
    parts = [dice.choice(PARTS) for _ in range(dice.randint(1, 3))]
    if dice.random() < 0.5:
        return "_".join(parts)
    return parts[0] + "".join(p.capitalize() for p in parts[1:])


def code_line(dice: random.Random) -> list[tuple[str, str]]:
    """A line of a program: pieces, each with what it is (keyword, name, number, string, comment, sign)."""
    a, b, c = (_identifier(dice) for _ in range(3))
    figure = dice.choice(
        (str(dice.randrange(1000)), f"0x{dice.randrange(65536):04X}", f"{dice.random():.3f}")
    )
    string = f'"{word(dice)} {word(dice)}"'
    return dice.choice(
        (
            [("name", a), ("sign", " = "), ("name", b), ("sign", "("), ("number", figure), ("sign", ")")],
            [
                ("keyword", dice.choice(KEYWORDS)),
                ("sign", " "),
                ("name", a),
                ("sign", " == "),
                ("string", string),
            ],
            [
                ("keyword", "def "),
                ("name", a),
                ("sign", "("),
                ("name", b),
                ("sign", ", "),
                ("name", c),
                ("sign", "):"),
            ],
            [("name", a), ("sign", "["), ("number", figure), ("sign", "] += "), ("name", b), ("sign", ";")],
            [("comment", f"# {sentence(dice)}")],
            [("comment", f"// {word(dice)} {word(dice)} {word(dice)}")],
            [
                ("keyword", "return "),
                ("name", a),
                ("sign", "."),
                ("name", b),
                ("sign", "(" + c + ") * "),
                ("number", figure),
            ],
            [("keyword", "import "), ("name", a), ("sign", " "), ("keyword", "as "), ("name", b)],
            [("sign", "}"), ("sign", dice.choice((");", " else {", "", ",")))],
            [
                ("name", a),
                ("sign", ": {"),
                ("string", string),
                ("sign", ": "),
                ("number", figure),
                ("sign", "},"),
            ],
            [("sign", "")],
        )
    )


def log_line(dice: random.Random) -> str:
    """What a program or a shell writes on a terminal."""
    clock = f"{dice.randrange(24):02d}:{dice.randrange(60):02d}:{dice.randrange(60):02d}"
    thing, size = _identifier(dice), dice.randrange(10**6)
    path = "/".join(dice.choice(PARTS) for _ in range(dice.randint(1, 4)))
    return dice.choice(
        (
            f"{clock} {dice.choice(LEVELS)} {_identifier(dice)}: {sentence(dice)}",
            f"user@host:~/{path}$ {dice.choice(PARTS)} -{dice.choice('abflrv')} {path}.txt",
            f"-rw-r--r-- 1 user user {size:>7} Jan {dice.randint(1, 31):>2} {clock[:5]} {thing}",
            f"[{dice.randint(1, 99):>3}%] {path}.o",
            f"{dice.getrandbits(32):08x}  " + " ".join(f"{dice.getrandbits(8):02x}" for _ in range(16)),
            f"  {size:>6} {dice.random() * 100:>6.2f}% {dice.random() * 10:>6.3f} s  {thing}",
            "",
        )
    )
