"""What users hand in: arrays, batches, signals, trajectories, CSV files, model files."""
