"""`NeuralODE`: an equation from measured trajectories."""
