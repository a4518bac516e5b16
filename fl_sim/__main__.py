"""The program fl-sim, also as ``python -m fl_sim``."""

from __future__ import annotations

import sys


def main() -> None:
    """Load the command line and run it; Ctrl-C while it loads is no traceback either."""
    try:
        from fl_sim import cli
    except KeyboardInterrupt:
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
