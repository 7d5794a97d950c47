"""The one place that reaches into compressai: its native rANS module, loaded without the package around it.

`import compressai` takes seconds and pulls in torchvision and every model of its zoo; its extension module
`compressai.ans` needs none of that, so it is loaded as the file that it is.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from importlib.machinery import PathFinder
from types import ModuleType

from ..errors import HpcmError

__all__ = ["load_ans"]

_NAME = "compressai.ans"


@cache
def load_ans() -> ModuleType:
    """The extension module `compressai.ans`, from wherever compressai is installed.

    Raises:
        HpcmError: compressai is not installed, or its native module cannot be loaded.
    """
    # Its classes can be registered once per process only: an import that came first is the one to use.
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    package = importlib.util.find_spec("compressai")
    folders = package.submodule_search_locations if package else None
    spec = PathFinder.find_spec(_NAME, list(folders)) if folders else None
    if spec is None or spec.loader is None:
        raise HpcmError("the entropy coder is missing: pip install compressai")
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        raise HpcmError(f"the entropy coder of compressai cannot be loaded: {error}") from error
    return module
