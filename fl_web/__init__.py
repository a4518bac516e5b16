"""The pages: the dashboard of a federation and the reading room of a clinic. Offline, no build chain, no torch."""
