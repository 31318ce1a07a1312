"""Equations of few terms: candidates, evidence for subsets of them, terms that bend, averages over forms."""
