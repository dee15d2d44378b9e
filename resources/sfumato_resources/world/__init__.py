"""The little world that the embedded model was trained on: its scenes, pictures, captions, and the judge of generated pictures.

Nothing here imports torch: numpy and Pillow are all it needs, so that tests can ask semantic questions of a picture cheaply.

====================  =====================================================================
:mod:`.scenes`        what a picture of the world shows, as frozen data; seeded sampling
:mod:`.shapes`        the outlines of the kinds of things, as layers
:mod:`.grounds`       the plain and the scenic grounds
:mod:`.drawing`       scene -> picture, in the painting styles
:mod:`.captions`      scene -> sentence, from a grammar with variants
:mod:`.edges`         an edge map of any picture (the canny control picture)
:mod:`.depth`         the depth map of a scene (the depth control picture)
:mod:`.colours`       sRGB -> CIELAB and the palette
:mod:`.sprites`       small layered templates of every kind, for the judge
:mod:`.checker`       picture -> what it shows, without any network
:mod:`.questions`     simple questions for tests: is there a red circle in this box?
:mod:`.benchmark`     held-out captions and the score of pictures made from them
====================  =====================================================================
"""
