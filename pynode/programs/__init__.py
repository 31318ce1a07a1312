"""Programs: straight-line code over registers, its builder, tracing of NumPy code, and derivatives."""
