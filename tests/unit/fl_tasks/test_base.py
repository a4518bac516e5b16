from __future__ import annotations

import pytest

from fl_tasks.base import Cancelled, Watch


def test_watch_raises_when_cancelled() -> None:
    Watch().check()
    with pytest.raises(Cancelled):
        Watch(lambda: True).check()
