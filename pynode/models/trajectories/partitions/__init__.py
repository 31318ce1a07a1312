"""Fits to data in partitions."""
