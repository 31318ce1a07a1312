"""Intervals of predictions: what is known of the field, and how wide they must be for it to hold."""
