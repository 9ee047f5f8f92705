"""Bodies in the safetensors format: written without copies, and read with every declared size checked first.

The library's own reader allocates what a header asks for. Bodies come from strangers, so the header is checked here
before any memory is taken, and tensors are views of the body.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from worldr1_core.errors import shorten
from worldr1_rewards.serving.wire_errors import malformed, too_large

if TYPE_CHECKING:  # a server checks headers without torch
    from torch import Tensor

ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "U8": 1}
"""Element type as safetensors spells it -> bytes per element."""
TORCH_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "U8": "uint8"}
METADATA = "__metadata__"
MAX_DIMENSIONS = 8
_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8


class TensorInfo(BaseModel):
    """Place of one tensor in a body.

    Attributes:
        dtype: Element type, a key of `ITEM_SIZES`.
        shape: Sizes of the dimensions.
        data_offsets: First byte, and the byte after the last, counted from the end of the header.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    dtype: Literal["F64", "F32", "F16", "BF16", "U8"]
    shape: list[Annotated[int, Field(ge=0, lt=2**40)]] = Field(max_length=MAX_DIMENSIONS)
    data_offsets: Annotated[list[Annotated[int, Field(ge=0, lt=2**60)]], Field(min_length=2, max_length=2)]

    @property
    def num_bytes(self) -> int:
        """Bytes that a tensor of this shape and type takes."""
        return math.prod(self.shape) * ITEM_SIZES[self.dtype]


_INFOS = TypeAdapter(dict[str, TensorInfo])
_STRINGS = TypeAdapter(dict[str, str], config=ConfigDict(strict=True))


@dataclass(frozen=True, slots=True)
class TensorFileHeader:
    """Header of a body.

    Attributes:
        metadata: Strings by name.
        tensors: Tensors by name.
        start: First byte of the tensor data.
    """

    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorInfo]
    start: int


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> list[memoryview]:
    """Write tensors and strings as one safetensors body.

    Args:
        tensors: Name -> tensor on the CPU, of a type in `ITEM_SIZES`.
        metadata: Name -> string.

    Returns:
        Parts of the body, in order; tensors are not copied if they are contiguous.
    """
    import torch

    names = {getattr(torch, torch_name): name for name, torch_name in TORCH_NAMES.items()}
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    parts: list[memoryview] = []
    offset = 0
    # Larger element types first, so that every tensor is aligned.
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        data = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        offset += len(data)
        parts.append(data)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return [memoryview(_LENGTH.pack(len(text)) + text), *(part for part in parts if len(part))]


def read_header(body: memoryview, max_header_bytes: int) -> TensorFileHeader:
    """Read and check the header of a body.

    Args:
        body: The whole body.
        max_header_bytes: Largest header that is read.

    Raises:
        RequestFailed: It is no safetensors file, its header is too large, or tensors overlap, leave gaps, or do not
            fill the body exactly.
    """
    if len(body) < _LENGTH.size:
        raise malformed(f"The body has {len(body)} bytes; a safetensors file begins with a length of 8 bytes.")
    (length,) = _LENGTH.unpack(body[: _LENGTH.size])
    if length > max_header_bytes:
        raise too_large("Bytes of the safetensors header", length, max_header_bytes)
    start = _LENGTH.size + length
    if start > len(body):
        raise malformed(f"The safetensors header has {length} bytes, and the body ends before it does.")
    try:
        document = json.loads(bytes(body[_LENGTH.size : start]))
        if not isinstance(document, dict):
            raise malformed(f"The safetensors header must be an object, received {shorten(document)}.")
        metadata = _STRINGS.validate_python(document.pop(METADATA, {}))
        tensors = _INFOS.validate_python(document)
    except ValidationError as error:
        issue = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in issue["loc"])
        raise malformed(f"The safetensors header is not valid at {shorten(where)}: {issue['msg']}.") from error
    except (ValueError, RecursionError) as error:
        raise malformed(f"The safetensors header is no JSON: {error}.") from error
    _check_layout(tensors, len(body) - start)
    return TensorFileHeader(metadata, tensors, start)


def _check_layout(tensors: Mapping[str, TensorInfo], available: int) -> None:
    end = 0
    for name, info in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begin, after = info.data_offsets
        if begin != end or after < begin or after - begin != info.num_bytes:
            raise malformed(
                f"Tensor {shorten(name)} of type {info.dtype} and shape {info.shape} has the offsets {begin} to "
                f"{after}; it must begin at {end} and take {info.num_bytes} bytes."
            )
        end = after
    if end != available:
        raise malformed(f"The tensors take {end} bytes, and the body has {available} bytes of data.")


def view(body: memoryview, header: TensorFileHeader, name: str) -> Tensor:
    """Return a tensor of a body without copying it. It is valid as long as the body is.

    Args:
        body: The whole body.
        header: Its header.
        name: A key of `header.tensors`.
    """
    import warnings

    import torch

    info = header.tensors[name]
    dtype = getattr(torch, TORCH_NAMES[info.dtype])
    if info.num_bytes == 0:
        return torch.empty(info.shape, dtype=dtype)
    offset = header.start + info.data_offsets[0]
    if offset % ITEM_SIZES[info.dtype]:  # written by another program: copied, so that torch reads it aligned
        return torch.frombuffer(bytearray(body[offset : offset + info.num_bytes]), dtype=dtype).reshape(info.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of buffers that cannot be written; nobody writes to them
        count = info.num_bytes // ITEM_SIZES[info.dtype]
        return torch.frombuffer(body, dtype=dtype, count=count, offset=offset).reshape(info.shape)
