"""Optimisers of any objective theta -> (loss, gradient); they know nothing of differential equations."""
