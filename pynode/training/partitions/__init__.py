"""Fits of data that lie in partitions, of which one is in memory at a time."""
