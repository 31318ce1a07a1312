"""Fields and models for places without Python."""
