"""The layered document."""
