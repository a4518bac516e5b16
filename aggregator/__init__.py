"""fl-agg: announces rounds, publishes the global model, folds updates once quorum is reached."""
