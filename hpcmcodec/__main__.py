"""`python -m hpcmcodec` is `hpcm`."""

import sys

from .cli import main

sys.exit(main())
