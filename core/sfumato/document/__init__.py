"""The layered document: what it is made of, how it changes, and how it gets to the disk. No Qt, no torch.

::

    planes      16-bit premultiplied planes, to and from the pixels of files
    tiles       sparse 256-pixel tiles, shared until they are written to, with halved pictures on demand
    layers      the kinds of layers, frozen, and trees of them
    picture     a structure with its surfaces at one moment: what threads may read
    blending    the formulas; compositing: the picture that the layers make; transforming: layers scaled and turned
    document    a picture that changes, by edits (editing), each of which is one command (commands) of the history, told as events
    packing     tiles in few bytes, for history and journal
    journal     every edit on the disk at once (journal_file, journal_records, folder_lock); recovery: after the process died
    ora_*       OpenRaster in and out (png, zip_archive, stack_xml, structure_json, last_save); psd: export (packbits)

A thread owns a `Document`; all else reads a `Document.snapshot`. Surfaces are named by `SurfaceId(layer, part)`, so that undo, journal
and files treat a layer's pixels, its mask and a generation's untouched result alike.
"""

from __future__ import annotations

from sfumato.document.blending import BlendMode
from sfumato.document.compositing import composite
from sfumato.document.document import Document
from sfumato.document.editing import Edit
from sfumato.document.history import History
from sfumato.document.journal import Journal
from sfumato.document.last_save import LastSave
from sfumato.document.layers import (
    SELECTION,
    ControlLayer,
    GenerativeLayer,
    GroupLayer,
    Layer,
    MaskLayer,
    RasterLayer,
    RegionLayer,
    SurfaceId,
)
from sfumato.document.ora_reading import Opened, read_ora
from sfumato.document.ora_writing import write_ora
from sfumato.document.picture import Picture, Structure
from sfumato.document.psd import write_psd
from sfumato.document.recovery import Orphan, Recovered, discard, find_orphans, recover

__all__ = [
    "SELECTION",
    "BlendMode",
    "ControlLayer",
    "Document",
    "Edit",
    "GenerativeLayer",
    "GroupLayer",
    "History",
    "Journal",
    "LastSave",
    "Layer",
    "MaskLayer",
    "Opened",
    "Orphan",
    "Picture",
    "RasterLayer",
    "Recovered",
    "RegionLayer",
    "Structure",
    "SurfaceId",
    "composite",
    "discard",
    "find_orphans",
    "read_ora",
    "recover",
    "write_ora",
    "write_psd",
]
