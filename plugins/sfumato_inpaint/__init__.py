"""Inpainting and outpainting without a trace: prefills, crop and stitch, colour match, seam fit, protected composite."""

from __future__ import annotations

from sfumato.hookspecs import hookimpl
from sfumato.nodes import NodeType, node_types
from sfumato.offers import InpaintFillOffer
from sfumato_inpaint import crop_nodes, nodes


@hookimpl
def register_nodes() -> list[NodeType]:
    """InpaintFill, OutpaintPrefill, MaskEdge, ColorMatchMasked, SeamFit, SeamFigure, ProtectedComposite; InpaintCrop, InpaintCropAlike,
    InpaintSecondPass, InpaintStitch."""
    return node_types(nodes) + node_types(crop_nodes)


@hookimpl
def register_inpaint_fills() -> list[InpaintFillOffer]:
    """What a hole is filled with before it is painted."""
    return [
        InpaintFillOffer(name, f"sfumato_inpaint.fills:{attribute}", words)
        for name, attribute, words in (
            ("original", "original", "What is there"),
            ("neutral", "neutral", "Middle grey"),
            ("blur", "blur", "Means of what is near"),
            ("harmonic", "harmonic", "The smoothest continuation of the border"),
            ("patch", "patches", "Textures and edges continued with patches of the rest"),
            ("telea", "telea", "Fast marching (OpenCV)"),
            ("navier_stokes", "navier_stokes", "Isophotes continued (OpenCV)"),
        )
    ]
