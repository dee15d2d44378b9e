"""The engine: everything that touches torch. Weights, sampling, conditioning and memory live here."""
