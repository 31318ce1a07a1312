"""The functions that users call; the only place that chooses between plain solves and solves with events."""
