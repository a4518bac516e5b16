"""What an edge costs a small machine while it has nothing to do."""

from __future__ import annotations

import re
from pathlib import Path

from tests.e2e.processes import Programs


def test_an_idle_edge_is_small_and_has_neither_torch_nor_numpy(programs: Programs) -> None:
    agg = programs.agg("--min-clients", "2")
    edge = programs.edge("edge1")
    agg.says("client joined client=edge1")
    place = Path(f"/proc/{edge.process.pid}")
    resident_mb = int(re.search(r"VmRSS:\s+(\d+)", (place / "status").read_text()).group(1)) / 1024  # type: ignore[union-attr]
    assert resident_mb < 60, resident_mb
    mapped = (place / "maps").read_text()
    assert "libpython" in mapped or "python3" in mapped
    assert not re.search(r"torch|numpy|PIL", mapped)
