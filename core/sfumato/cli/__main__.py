"""`python -m sfumato.cli`: the same as the command `sfumato`."""

from __future__ import annotations

import sys

from sfumato.cli import main

if __name__ == "__main__":
    sys.exit(main())
