"""Known equations with a protocol: doses, observation functions, error models, profiles of parameters."""
