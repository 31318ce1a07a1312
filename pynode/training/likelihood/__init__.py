"""Fits by likelihood: known equations, doses, error models; profiles, and what data determine."""
