"""``fl-agg status``: a job as its broker tells it, read, then shown in lines or as a table. Nothing of a run is needed."""
