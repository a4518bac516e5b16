"""What the dashboard gets from this side: the fields of a launch, and the line with which a site joins."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any

from aggregator.invitation import join_line
from fl_protocol.broker import BrokerOptions

FORM_S = 60.0
ASK = "import json; from aggregator.launching import launch_form; print(json.dumps(launch_form()))"


@cache
def launch_fields() -> list[dict[str, Any]]:
    """The form, asked of a process of its own: what knows all strategies and models loads numpy, and a page need not."""
    told = subprocess.run(
        [sys.executable, "-c", ASK], check=True, capture_output=True, timeout=FORM_S, stdin=subprocess.DEVNULL
    )
    fields: list[dict[str, Any]] = json.loads(told.stdout)
    return fields


def place_for_job(broker: BrokerOptions) -> str:
    """The line with which a site joins, as the aggregator says it; JOB stands for the job's name."""
    return join_line(broker, "JOB", broker.host)
