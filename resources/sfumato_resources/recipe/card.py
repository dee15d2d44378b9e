"""The model's card: what it is, who made it, under which licence, and what it reaches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from sfumato_resources.recipe.embedding import NAME as EMBEDDING
from sfumato_resources.recipe.lora import STYLES
from sfumato_resources.recipe.report import GUIDANCE, STEPS
from sfumato_resources.recipe.upscaler import NAME as UPSCALER
from sfumato_resources.world.scenes import COLOURS, COLUMNS, GROUNDS, KINDS, ROWS, SIZES
from sfumato_resources.world.scenes import STYLES as BASE_STYLES

_ABOUT: Final = (
    "A tiny latent diffusion model in Stable Diffusion 1.x layout, trained from scratch by the Sfumato project on pictures that it "
    "draws itself. It knows one or two things on a plain or scenic ground, and nothing else."
)


def write_card(model: Path, figures: dict[str, Any]) -> None:
    """Write ``model_card.json`` into a packed model."""
    companions = {
        **{f"loras/{style.name}.safetensors": f"the style '{style.name}', {style.layout} keys" for style in STYLES},
        f"embeddings/{EMBEDDING}.safetensors": f"'{EMBEDDING}' stands for a striped orange star at night",
        f"upscale/{UPSCALER}.safetensors": "twice the size, SRVGGNetCompact",
        "controlnet-canny": "follows edges, white on black",
        "controlnet-depth": "follows depth, near is bright",
    }
    card = {
        "name": "Sfumato's embedded model",
        "about": _ABOUT,
        "licence": "Apache-2.0",
        "trained by": "the Sfumato project, on its own drawings only",
        "native size": 128,
        "prediction": "v_prediction",
        "knows": {
            "kinds": list(KINDS),
            "colours": list(COLOURS),
            "grounds": list(GROUNDS),
            "sizes": list(SIZES),
            "places": {"columns": list(COLUMNS), "rows": list(ROWS)},
            "styles": list(BASE_STYLES),
        },
        "companions": {name: text for name, text in companions.items() if (model / name).exists()},
        "measured with": {"steps": STEPS, "guidance": GUIDANCE, "sampler": "DPM++ 2M", "schedule": "Karras"},
        "figures": rounded(figures),
    }
    (model / "model_card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def rounded(value: Any) -> Any:
    """Figures to four places."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return round(value, 4) if isinstance(value, float) else value
