"""How the embedded model is made: pictures are drawn, networks are trained on them, the result is packed and scored.

One command does all of it, goes on where it was interrupted, and ends with a report of the model's accuracy::

    python -m sfumato_resources.recipe --workdir DIR [--from STAGE] [--only STAGE] [--preset cpu128] [--processes 2]

The README beside this file says how the weights that are shipped really came to be.
"""
