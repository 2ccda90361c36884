"""`python -m exotide_autoscaler`."""

from __future__ import annotations

import sys

from exotide_autoscaler.cli import main

if __name__ == "__main__":
    sys.exit(main())
