"""Checks of a block list that arrives on the wire: first its columns, then the shape of its tree.

Every failure is a :class:`DecodeError` that names the column, the index and the rule. All checks take time
linear in the number of blocks, and none of them recurses.
"""

from __future__ import annotations

from typing import Any, Final

from ndisbus.ddi.state_types import Layer, OffloadStateType, layer_of
from ndisbus.errors import DecodeError
from ndisbus.lists.blocklist import Key

__all__ = [
    "DOWN_COLUMNS",
    "EVENT_COLUMNS",
    "MAX_BLOCKS",
    "UP_COLUMNS",
    "CheckedColumns",
    "check_columns",
    "check_nodes",
    "check_tree",
]

#: Most blocks in one list. The interface does not limit the width of a tree (R-TREE-13); a message does.
MAX_BLOCKS: Final = 1_000_000

_BITS: Final = {"Type": 8, "Revision": 8, "Size": 16, "Status": 32, "PortNumber": 32}

_NBLS: Final = -1
_IMAGES: Final = 0
_TOP: Final = 1 << 64
_COMMON: Final = (
    Key.BLOCK,
    Key.STATUS,
    *Key.PROTOCOL_RESERVED,
    *Key.MINIPORT_RESERVED,
    *Key.IM_RESERVED,
    *Key.SCRATCH,
    Key.SOURCE_HANDLE,
    Key.STATE,
    Key.NBL_CHAIN,
    Key.CONTEXT,
    Key.NET_BUFFER_LISTS,
)


def _limits(keys: tuple[str, ...]) -> dict[str, int]:
    """Return for each column one more than its largest number, or the kind of its values."""
    special = {Key.STATE: _IMAGES, Key.NET_BUFFER_LISTS: _NBLS}
    return {k: special.get(k, 1 << _BITS[k] if k in _BITS else _TOP) for k in keys}


#: Columns that a protocol-form list of a request may have.
DOWN_COLUMNS: Final = _limits(
    (
        *_COMMON,
        *Key.NDIS_RESERVED,
        Key.TYPE,
        Key.REVISION,
        Key.SIZE,
        Key.NEXT,
        Key.DEPENDENT,
        Key.PORT_NUMBER,
        Key.OFFLOAD_HANDLE,
        Key.HANDLE_CELL,
    )
)
#: Columns that a miniport-form list of a completion may have: only those that a driver below may write.
UP_COLUMNS: Final = _limits(_COMMON)
#: Columns that the list of a generic indication may have. A driver below made it itself.
EVENT_COLUMNS: Final = DOWN_COLUMNS | _limits((Key.NDIS_OFFLOAD_HANDLE, Key.CELL))

_INT_OR_NULL: Final[frozenset[Any]] = frozenset((int, type(None)))
_BYTES_OR_NULL: Final[frozenset[Any]] = frozenset((bytes, type(None)))


class CheckedColumns(dict[str, Any]):
    """Columns that :func:`check_columns` has seen in pieces. It need not look at every value again."""

    __slots__ = ()


def check_columns(obj: object, where: str, allowed: dict[str, int]) -> dict[str, Any]:
    """Check names, lengths, types and ranges of all columns. Returns the columns.

    Raises :class:`DecodeError`.
    """
    if type(obj) is CheckedColumns:
        return dict(obj)
    if type(obj) is not dict:
        # Each of the five operations has a list. An indication may have none.
        rule = "" if allowed is EVENT_COLUMNS else "R-BLK-01"
        raise DecodeError(where, f"a block list is a map of columns, got {type(obj).__name__}", rule=rule)
    blocks = obj.get(Key.BLOCK)
    if type(blocks) is not list or not blocks:
        raise DecodeError(f"{where}.Block", "a non-empty array of pointers expected")
    n = len(blocks)
    if n > MAX_BLOCKS:
        raise DecodeError(f"{where}.Block", f"{n} blocks, at most {MAX_BLOCKS} are accepted")
    for key, col in obj.items():
        top = allowed.get(key)
        if top is None:
            raise DecodeError(f"{where}.{key}", "unknown member")
        # The usual case of a short list comes first: every request passes here.
        value = col[0] if type(col) is list and n == 1 and len(col) == 1 else col
        if value is None or (type(value) is int and 0 <= value < top):
            continue
        _check_column(f"{where}.{key}", col, n, top)
    if None in blocks:
        raise DecodeError(f"{where}.Block[{blocks.index(None)}]", "NULL is not the address of a block")
    return obj


def _check_column(where: str, col: Any, n: int, top: int) -> None:
    if top == _NBLS:
        if type(col) is not list:
            raise DecodeError(where, f"array expected, got {type(col).__name__}")
        return
    kinds, name = (_BYTES_OR_NULL, "bin or nil") if top == _IMAGES else (_INT_OR_NULL, "integer or nil")
    if type(col) is not list:
        if type(col) not in kinds:
            raise DecodeError(where, f"{name} or an array of them expected, got {type(col).__name__}")
        col = [col]
    elif len(col) != n:
        raise DecodeError(where, f"{len(col)} values for {n} blocks")
    elif not kinds.issuperset(map(type, col)):
        i = next(i for i, v in enumerate(col) if type(v) not in kinds)
        raise DecodeError(f"{where}[{i}]", f"{name} expected, got {type(col[i]).__name__}")
    if top == _IMAGES:
        return
    numbers = col if None not in col else [v for v in col if v is not None]
    if numbers and (min(numbers) < 0 or max(numbers) >= top):
        i = next(i for i, v in enumerate(col) if v is not None and not 0 <= v < top)
        raise DecodeError(f"{where}[{i}]", f"{col[i]} does not fit {top.bit_length() - 1} bits")


def check_tree(columns: dict[str, Any], where: str) -> list[int]:
    """Check the links of a request's tree. Returns the layer of every block.

    Exactly one link leads to every block but the root, from a block that is earlier in the list. That
    excludes cycles, shared blocks and blocks without a link to them. NextBlock keeps the layer (R-BLK-07).
    DependentBlockList goes one layer up and is NULL on TCP blocks (R-BLK-08).

    Raises :class:`DecodeError`.
    """
    blocks: list[int] = columns[Key.BLOCK]
    n = len(blocks)
    types = columns.get(Key.TYPE, 0)
    following, dependents = columns.get(Key.NEXT), columns.get(Key.DEPENDENT)
    cells = columns.get(Key.HANDLE_CELL)
    if n == 1:
        layer = _layer(types[0] if type(types) is list else types, f"{where}.Type[0]", _first(cells))
        for key, col in ((Key.NEXT, following), (Key.DEPENDENT, dependents)):
            if col is not None and col != [None]:
                raise DecodeError(
                    f"{where}.{key}[0]", f"{_first(col):#x} is not a block of this list further down"
                )
        return [layer or int(Layer.NEIGHBOR)]
    index = dict(zip(blocks, range(n), strict=True))
    if len(index) != n:
        i = next(i for i, p in enumerate(blocks) if index[p] != i)
        raise DecodeError(
            f"{where}.Block[{i}]", f"{blocks[i]:#x} stands twice in the list: a block must not be shared"
        )
    nexts = following if type(following) is list else [following] * n
    deps = dependents if type(dependents) is list else [dependents] * n
    kinds = types if type(types) is list else [types] * n
    holds = cells if type(cells) is list else [cells] * n
    root = _layer(kinds[0], f"{where}.Type[0]", holds[0]) or _infer_root(index, nexts, deps, kinds, holds)
    layers = _walk(index, nexts, deps, kinds, holds, root)
    if layers is not None:
        return layers
    # Something is wrong with the tree. Find out what, and where.
    parent = [-1] * n
    layers = [root, *[0] * (n - 1)]
    for i in range(n):
        layer = layers[i]
        if not layer:
            raise DecodeError(
                f"{where}.Block[{i}]", f"{blocks[i]:#x} hangs from no block before it (or in a cycle)"
            )
        for key, pointer, expected, rule in (
            (Key.NEXT, nexts[i], layer, "R-BLK-07"),
            (Key.DEPENDENT, deps[i], layer + 1, "R-BLK-08"),
        ):
            if pointer is None:
                continue
            j = index.get(pointer, -1)
            at = f"{where}.{key}[{i}]"
            if j < 0:
                raise DecodeError(at, f"{pointer:#x} is not a block of this list")
            if j <= i:
                raise DecodeError(
                    at, f"leads back to block {j}: a link leads to a block further down (cycle)"
                )
            if parent[j] >= 0:
                raise DecodeError(
                    at, f"block {j} already hangs from block {parent[j]}: a block must not be shared"
                )
            if expected > Layer.TCP:
                raise DecodeError(at, "a TCP block has no dependents", rule=rule)
            parent[j] = i
            found = _layer(kinds[j], f"{where}.Type[{j}]", holds[j])
            if found and found != expected:
                raise DecodeError(
                    at,
                    f"leads from layer {Layer(layer).name} to block {j} of layer {Layer(found).name}, "
                    f"{Layer(expected).name} expected",
                    rule=rule,
                )
            layers[j] = expected
    return layers


def check_nodes(
    columns: dict[str, Any], handles: list[int | None], contexts: list[int | None], where: str
) -> None:
    """Check that every block of an initiate is a placeholder, a linker or a new offload.

    No state follows the first two (R-TREE-01, R-TREE-03). A linker has dependents (R-TREE-04). State always
    follows a new offload (R-TREE-06). ``handles``: the blocks' OffloadHandle. ``contexts``: the values of
    their cells. Raises :class:`DecodeError`.
    """
    n = len(handles)
    states = columns.get(Key.STATE)
    if type(states) is not list:
        states = [states] * n
    if None not in states and None not in handles and contexts.count(None) == n:
        return  # only new offloads, the usual case
    dependents = columns.get(Key.DEPENDENT)
    if type(dependents) is not list:
        dependents = [dependents] * n
    for i, (handle, context, state) in enumerate(zip(handles, contexts, states, strict=True)):
        if handle is not None and context is None:
            if state is None:
                raise DecodeError(f"{where}.State[{i}]", "no state follows a new offload", rule="R-TREE-06")
            continue
        if state is not None:
            kind, rule = ("placeholder", "R-TREE-01") if handle is None else ("linker", "R-TREE-03")
            raise DecodeError(f"{where}.State[{i}]", f"state follows a {kind}", rule=rule)
        if handle is not None and dependents[i] is None:
            raise DecodeError(
                f"{where}.DependentBlockList[{i}]", "a linker has a dependent", rule="R-TREE-04"
            )


def _walk(
    index: dict[int, int], nexts: list[Any], deps: list[Any], kinds: list[int], cells: list[Any], root: int
) -> list[int] | None:
    """Return the layers of a correct tree, in one pass over plain integers; None for any other tree."""
    following, dependents = list(map(index.get, nexts)), list(map(index.get, deps))
    if following.count(None) != nexts.count(None) or dependents.count(None) != deps.count(None):
        return None
    found = list(map(_LAYERS.get, kinds))
    if None in cells:
        found = [0 if c is None else f for c, f in zip(cells, found, strict=True)]
    if None in found:
        return None
    layers = [root, *[0] * (len(kinds) - 1)]
    for i, (j, k) in enumerate(zip(following, dependents, strict=True)):
        layer = layers[i]
        if not layer:
            return None
        if j is not None:
            # A block whose layer is known has another link to it, or is earlier in the list.
            if layers[j] or (found[j] != layer and found[j]):
                return None
            layers[j] = layer
        if k is not None:
            above = layer + 1
            if layers[k] or above > Layer.TCP or (found[k] != above and found[k]):
                return None
            layers[k] = above
    return layers


def _first(col: Any) -> Any:
    return col[0] if type(col) is list else col


_LAYERS: Final[dict[int, int]] = {
    int(t): int(layer_of(t)) for t in OffloadStateType if t < OffloadStateType.FilterReservedOffloadState
}


def _layer(kind: int, where: str, cell: int | None) -> int:
    """Return the layer of a block; 0 for a placeholder, whose Type is not used (R-TREE-01)."""
    if cell is None:
        return 0
    try:
        return _LAYERS.get(kind) or int(layer_of(kind))
    except ValueError as e:
        raise DecodeError(where, str(e)) from None


def _infer_root(
    index: dict[int, int], nexts: list[Any], deps: list[Any], kinds: list[int], cells: list[Any]
) -> int:
    """Return the layer of a placeholder root, counted back from the first block whose Type is used."""
    depths = {0: 0}
    for i in range(len(kinds)):
        depth = depths.get(i)
        if depth is None:
            break  # no link leads to it, which the caller finds as well
        if cells[i] is not None:
            return max(_LAYERS.get(kinds[i], 0) - depth, int(Layer.NEIGHBOR))
        for pointer, below in ((nexts[i], depth), (deps[i], depth + 1)):
            if pointer is not None:
                depths.setdefault(index.get(pointer, -1), below)
    return int(Layer.NEIGHBOR)
