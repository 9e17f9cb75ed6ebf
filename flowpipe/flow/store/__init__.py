"""Flow on disk: write, read, convert between layouts, verify."""

from flowpipe.flow.store.convert import convert
from flowpipe.flow.store.find import StoredClip, flow_to_read, no_flow, stored_clips
from flowpipe.flow.store.layouts import (
    LAYOUTS,
    QUALITY,
    DtypeOption,
    FloatType,
    Layout,
    LayoutName,
    QualityOption,
    layout,
)
from flowpipe.flow.store.meta import FlowMeta
from flowpipe.flow.store.ownership import finished, is_up_to_date
from flowpipe.flow.store.reader import FlowReader, read_flow
from flowpipe.flow.store.verify import remove, verify
from flowpipe.flow.store.writer import FlowWriter

__all__ = [
    "LAYOUTS",
    "QUALITY",
    "DtypeOption",
    "FloatType",
    "FlowMeta",
    "FlowReader",
    "FlowWriter",
    "Layout",
    "LayoutName",
    "QualityOption",
    "StoredClip",
    "convert",
    "finished",
    "flow_to_read",
    "is_up_to_date",
    "layout",
    "no_flow",
    "read_flow",
    "remove",
    "stored_clips",
    "verify",
]
