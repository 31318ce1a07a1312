"""Whether a fit is good: residuals beside noise, what they depend on, and likely causes of misfit."""
