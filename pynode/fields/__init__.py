"""Vector fields f(t, y, u; theta): made by tracing or by hand, transformed, with jumps, losses and events."""
