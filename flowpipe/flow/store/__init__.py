"""Flow on disk: write, read, convert between layouts, verify."""

from flowpipe.flow.store.convert import convert
from flowpipe.flow.store.layouts import LAYOUTS, Layout, LayoutName, layout
from flowpipe.flow.store.meta import FloatType, FlowMeta
from flowpipe.flow.store.ownership import finished, is_up_to_date
from flowpipe.flow.store.reader import FlowReader, StoredClip, flow_to_read, read_flow, stored_clips
from flowpipe.flow.store.verify import remove, verify
from flowpipe.flow.store.writer import FlowWriter

__all__ = [
    "LAYOUTS",
    "FloatType",
    "FlowMeta",
    "FlowReader",
    "FlowWriter",
    "Layout",
    "LayoutName",
    "StoredClip",
    "convert",
    "finished",
    "flow_to_read",
    "is_up_to_date",
    "layout",
    "read_flow",
    "remove",
    "stored_clips",
    "verify",
]
