from __future__ import annotations

import pytest

from fl_protocol.messages import DataSummary, Plan
from fl_tasks import jobs

OPTIONS = jobs.DataOptions("chest-xray", "/x", 64, "/c", 2, 3, "dirichlet:0.5", 9, "eval")
PLAN = Plan(1, 8, 0.1, 2**62, local_steps=3, proximal_mu=0.01, options={"options": 1.0})


@pytest.mark.parametrize(
    "job",
    [
        jobs.Prepare(OPTIONS),
        jobs.Deal(OPTIONS),
        jobs.Dealt(
            (3, 0),
            (DataSummary(4, 3, 2, 1, 1, 1, {"NORMAL": 4}), DataSummary(0, 0, 0, 0)),
            ("a",),
            "cpu",
            ("n", "s"),
        ),
        jobs.Inspect("t"),
        jobs.Inspected("cpu", "torch 2"),
        jobs.Initialise("t", "m", 64, 1, None, "o"),
        jobs.Train(OPTIONS, "f", PLAN, "o", 4, "m"),
        jobs.Evaluate(OPTIONS, "f", detail=True),
        jobs.Explain("f", b"\x00\x01", (1, 2)),
        jobs.Explained(b"\x00" * 8, b"", ()),
        jobs.Export("f", "o", "onnx"),
        jobs.Exported("o", True, 1e-7),
        jobs.Cancel(),
        jobs.Shutdown(),
        jobs.Prepared(DataSummary(4, 3, 2, 1, 1, 1, {"NORMAL": 4}), ("a.png is broken",), 2, "cpu"),
        jobs.Initialised("o", {"task": "t"}),
        jobs.TrainingProgress(1, 0.25, None),
        jobs.Trained(1, "o", 5, {"train_loss": 0.5}),
        jobs.Evaluated({"loss": 1.0}, {"roc": [[0.0, 1.0]]}),
        jobs.Failed("Train", "bug", "x\ny", 7),
    ],
)
def test_what_is_encoded_comes_back(job: jobs.Request | jobs.Reply) -> None:
    assert jobs.decode(jobs.encode(job)) == job


@pytest.mark.parametrize("frame", [b"\x93\x01\x02\x03", b"\x81\xa1t\xa4Nope", b"\x80"])
def test_anything_else_is_a_bug(frame: bytes) -> None:
    with pytest.raises(ValueError, match="not a job"):
        jobs.decode(frame)
