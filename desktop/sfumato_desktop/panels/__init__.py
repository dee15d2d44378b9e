"""The panels around the canvas, one a file."""
