"""What every test rests on."""

from __future__ import annotations

import os
import signal
import sys

# Started in the background, this process ignores Ctrl-C, and so would every program that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Hundreds of short processes: what the first one compiles the others need not, whatever the person's shell says.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
