"""The edge: joins a job, trains on its own folder, sends updates, serves the model to its own clinic."""
