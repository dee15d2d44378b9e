"""What the pen can do on the canvas, one tool a file. Tools know no Qt."""
