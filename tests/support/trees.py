"""Random offload state trees, built block by block in traversal order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from ndisbus.lists.blocklist import BlockList, BlockListBuilder, Key, values
from ndisbus.lists.heap import Heap

#: Types that name a layer: whole state and single classes.
TYPES = {1: (1, 2, 3, 4), 2: (5, 8, 12), 3: (13, 15, 17)}


@dataclass
class Grown:
    """A tree with what it was grown from: the layer of each block, and which are placeholders."""

    block_list: BlockList
    layers: list[int]
    placeholders: list[bool]
    heap: Heap

    @property
    def columns(self) -> dict[str, Any]:
        """Its columns as they travel down, cells included."""
        columns = dict(self.block_list.columns)
        handles = values(columns.get(Key.OFFLOAD_HANDLE), len(self.layers))
        columns[Key.HANDLE_CELL] = [None if h is None else h + 0x10 for h in handles]
        return columns


@st.composite
def trees(draw: st.DrawFn, max_blocks: int = 25, placeholders: bool = True) -> Grown:
    """A tree of one to ``max_blocks`` blocks."""
    heap = Heap(7)
    builder = BlockListBuilder(heap)
    count: int = draw(st.integers(1, max_blocks))
    root: int = draw(st.integers(1, 3))
    layers: list[int] = []
    empty: list[bool] = []
    for _ in range(count):
        # A block hangs from the last one of its layer, or is the first above the last one one layer down.
        possible = [root] if not layers else list(range(root, min(layers[-1] + 1, 3) + 1))
        layer: int = draw(st.sampled_from(possible))
        kind: int = draw(st.sampled_from(TYPES[layer]))
        placeholder: bool = placeholders and draw(st.booleans())
        builder.add(kind, None if placeholder else heap.address(0x20), state=None if placeholder else b"s")
        layers.append(layer)
        empty.append(placeholder)
    return Grown(builder.build(), layers, empty, heap)
