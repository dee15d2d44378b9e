"""ComfyUI's dialect: workflows as its editor saves them, with places and wires, besides the API format that core reads itself."""

from __future__ import annotations

from sfumato.hookspecs import hookimpl
from sfumato.offers import FileFormatOffer


@hookimpl
def register_file_formats() -> list[FileFormatOffer]:
    """Workflows in UI format, schema 0.4 and 1.0."""
    words = "workflows as ComfyUI's editor saves them, with sub-graphs, reroutes, primitives, muted and bypassed nodes"
    return [FileFormatOffer("ComfyUI workflow", "sfumato_comfy.formats:WORKFLOW", words, (".json",))]
