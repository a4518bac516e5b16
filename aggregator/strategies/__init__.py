"""The strategies, a module a paper. ``registry`` finds them by name."""
