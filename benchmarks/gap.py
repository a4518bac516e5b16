"""How sure the gap of a comparison is, as JSON: two models on one test set, patients resampled for both at once.

    .venv/bin/python -m benchmarks.gap --data ../shared/data/chest_xray runs/sites-iid [RUN ...]

RUN is the folder of an ``fl-sim compare``. ``gap`` is the federated model's AUROC over the centralised one's, ``low``
and ``high`` its 95 % interval: the percentiles of 1,000 paired bootstrap draws of patients (Efron 1979). Of several runs
(seeds) the last row has the mean, the same patients drawn for all of them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from aggregator.rundir import GLOBAL
from fl_sim.comparison import CENTRALISED, FEDERATED
from fl_tasks.folder import ImageFile, list_images
from fl_tasks.jobs import EVAL
from fl_tasks.metrics import patient_draws, weighted_auroc
from fl_tasks.predict import predict


def scores(model: Path, files: list[ImageFile]) -> np.ndarray:
    """The probability of class 1 of every image, as `fl-edge predict` gives it."""
    rows = predict(model, [file.path for file in files], "cpu")
    return np.array([list(row["probabilities"].values())[1] for row in rows])


def gaps(pair: tuple[np.ndarray, np.ndarray], labels: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """AUROC of the first scores less that of the second; (draws,) for weights (draws, images)."""
    first, second = pair
    return np.array([weighted_auroc(labels, first, w) - weighted_auroc(labels, second, w) for w in draws])


def told(run: str, gap: float, of_draws: np.ndarray) -> dict[str, object]:
    """One row of the output."""
    low, high = np.percentile(of_draws, [2.5, 97.5])
    return {"run": run, "gap": round(gap, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def main() -> None:
    """Score, resample, print a row a run and their mean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder the comparison had, with a test part")
    parser.add_argument("runs", nargs="+", type=Path, help="folders of fl-sim compare")
    options = parser.parse_args()
    files = list_images(options.data, EVAL)
    labels = np.array([file.label for file in files])
    draws = np.stack(list(patient_draws(np.array([file.patient for file in files]))))
    plain, resampled = [], []
    for run in options.runs:
        pair = scores(run / FEDERATED / GLOBAL, files), scores(run / CENTRALISED / GLOBAL, files)
        plain.append(float(gaps(pair, labels, np.ones((1, len(labels))))[0]))
        resampled.append(gaps(pair, labels, draws))
        print(json.dumps(told(str(run), plain[-1], resampled[-1])), flush=True)
    if len(plain) > 1:
        print(json.dumps(told("mean", float(np.mean(plain)), np.mean(resampled, axis=0))))


if __name__ == "__main__":
    main()
