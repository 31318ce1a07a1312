"""How measured trajectories come about: initial states, doses, and what is measured of the states."""
