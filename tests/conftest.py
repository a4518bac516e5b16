"""What every test rests on."""

from __future__ import annotations

import os
import signal
import sys

from hypothesis import HealthCheck, settings

# Started in the background, this process ignores Ctrl-C, and so would every program that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Hundreds of short processes: what the first one compiles the others need not, whatever the person's shell says.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Hypothesis, the same every time, and whatever else the machine does: no chance, deadline or database.
settings.register_profile(
    "ci",
    derandomize=True,
    print_blob=True,
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci")
