"""What every test rests on."""

from __future__ import annotations

import signal

# Started in the background, this process ignores Ctrl-C, and so would every program that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
