"""How trajectories are learned: smoothing, matching of slopes, windows, whole trajectories."""
