"""Who may import whom, and what importing must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "hpcmcodec"
EVERYTHING = ("*",)

# A module or a folder, and what it may import of this package. The longest row that fits a module counts;
# everyone may import `errors`, and what lies in the same folder if the folder's own row is the one that fits.
ALLOWED: dict[str, tuple[str, ...]] = {
    "__init__": ("codec", "container", "zoo"),
    "__main__": ("cli",),
    "ambient": (),
    "cli": EVERYTHING,
    "codec": ("ambient", "config", "container", "entropy", "files", "models", "pictures", "search", "zoo"),
    "config": (),
    "container": ("files",),
    "entropy": (),
    "errors": (),
    "evaluation": ("codec", "files", "metrics", "pictures", "search", "zoo"),
    "files": (),
    "layers": ("ops",),
    "metrics": ("ambient",),
    "models": ("ambient", "config", "entropy", "layers", "ops"),
    "models.context": ("config", "layers", "models.schedule"),
    "models.exact": ("layers", "models.context"),
    "models.hpcm": (
        *("ambient", "config", "entropy", "layers.exact"),
        *("models.context", "models.exact", "models.schedule", "models.transforms"),
    ),
    "models.schedule": (),
    "models.transforms": ("layers",),
    "ops": (),
    "pictures": ("container", "files"),
    "search": (),
    "stored": ("ambient",),
    "selftest": ("ambient", "config", "entropy", "models", "zoo"),
    "training": (
        *("ambient", "config", "entropy", "files", "layers", "metrics", "models", "ops", "pictures"),
        *("selftest", "stored", "zoo"),
    ),
    "zoo": ("ambient", "config", "models", "stored"),
}
STANDARD_LIBRARY_ONLY = ("__init__", "__main__", "config", "container", "errors", "search")
# Third parties that only these may import.
ONLY_IN = {
    "bjontegaard": ("metrics",),
    "compressai": ("entropy",),
    "matplotlib": ("evaluation",),
    "pytorch_msssim": ("metrics",),
    "rich": ("cli",),
    "triton": ("ops",),
    "typer": ("cli",),
}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports(module: str) -> Iterator[str]:
    """Every module that is imported anywhere in one, in full: `hpcmcodec.layers.conv`, `torch`."""
    path = MODULES[module]
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join((*parts[: len(parts) - node.level], node.module or ""))
                if node.level
                else node.module
            )
            for alias in node.names:
                name = f"{base}.{alias.name}".replace("..", ".")
                yield name if name.removeprefix("hpcmcodec.") in MODULES else str(base).rstrip(".")


def within(module: str, row: str) -> bool:
    return row == "*" or module == row or module.startswith(f"{row}.")


def row_of(module: str) -> str:
    return max((row for row in ALLOWED if within(module, row)), key=len, default="")


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_table(module: str) -> None:
    row = row_of(module)
    assert row, f"{module} stands in no row of the table"
    home = {row} if "." not in row else set()
    allowed = {"errors", *ALLOWED[row], *home}
    for name in imports(module):
        if name == "hpcmcodec":  # its version
            assert row in ("cli", "evaluation"), f"{module} imports the package itself"
        elif name.startswith("hpcmcodec."):
            target = name.removeprefix("hpcmcodec.")
            assert any(within(target, other) for other in allowed), f"{module} imports {target}"


@pytest.mark.parametrize("module", MODULES)
def test_third_parties_stay_where_they_belong(module: str) -> None:
    names = {name.partition(".")[0] for name in imports(module)} - {"hpcmcodec"}
    if row_of(module) in STANDARD_LIBRARY_ONLY:
        assert names <= set(sys.stdlib_module_names)
    for name in names & set(ONLY_IN):
        assert row_of(module).partition(".")[0] in ONLY_IN[name], f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_exports_are_explicit(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    defines = any(isinstance(node, ast.ClassDef | ast.FunctionDef) for node in tree.body)
    named = any(
        isinstance(node, ast.Assign)
        and any(getattr(target, "id", "") == "__all__" for target in node.targets)
        for node in tree.body
    )
    assert named or not defines, f"{module} has no __all__"


@pytest.mark.parametrize(
    "code",
    [
        "import hpcmcodec",
        "from hpcmcodec.cli import main; assert main(['--help']) == 0",
        "from hpcmcodec.cli import main; assert main(['info', 'no-such-file']) == 1",
        "import hpcmcodec; hpcmcodec.info",
    ],
)
def test_light_things_import_nothing_heavy(code: str) -> None:
    heavy = "import sys; print(*({'torch', 'numpy', 'PIL', 'compressai'} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{heavy}"], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == ""
