"""Equations of few terms in place of networks: where they are looked for, which are kept, what is said of them."""
