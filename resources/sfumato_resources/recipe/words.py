"""Words outside the world's grammar that the vocabulary holds too: what people type into prompts, and names that LoRAs may teach."""

from __future__ import annotations

from typing import Final

# fmt: off
FILLERS: Final = (
    "beautiful", "masterpiece", "best", "quality", "highly", "detailed", "photo", "painting", "illustration",
    "simple", "cute", "nice", "blurry", "bad", "low", "worst", "ugly", "picture", "the", "of", "and", "some", "very",
    "bright", "children", "book", "icon", "logo", "cartoon", "poster", "clean", "art", "artwork", "minimal", "shape",
)
EXTRAS: Final = (
    "dotted", "sketch", "pencil", "pixel", "watercolor", "neon", "crayon", "mosaic", "gold", "silver", "brown", "cat",
    "dog", "bird", "flower", "sun", "cloud", "mountain", "car", "boat", "person", "face", "robot", "rainbow", "snow",
    "rain", "fire", "winter", "summer", "forest", "river", "city", "two", "three", "many", "big", "tiny",
)
# fmt: on
