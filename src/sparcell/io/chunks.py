"""Values of a stored array, read and decompressed chunk by chunk, so that several threads read one file at once.

HDF5 reads one chunk at a time and holds a lock for all files while it does; zarr takes 1 ms of Python for a range of values, however small.
Here h5py and zarr only say where the chunks of an array are and how they are compressed. Chunks are read from the file itself and
decompressed by isal, zlib or numcodecs outside of Python's lock. gzip is decompressed by isal if it is installed (extra `fast`), else by
zlib; both check the checksum of each chunk. Arrays that are stored in any other way are read by h5py or zarr.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    from isal.isal_zlib import decompress
except ImportError:
    from zlib import decompress

if TYPE_CHECKING:
    from numpy.typing import NDArray

Bytes = Any
"""An object with the interface of a buffer."""
Decode = Callable[[Bytes], Bytes]
ReadValues = Callable[[int, int], "NDArray[Any]"]
"""Returns values start … stop - 1 of a stored array."""

GZIP, SHUFFLE, ZSTD = 1, 2, 32015
"""Numbers of filters that HDF5's registry gives to deflate, byte shuffle and Zstandard."""


def values_reader(stored: Any, path: Path) -> ReadValues:
    """Return the function that reads ranges of a one-dimensional array of an .h5ad file or a zarr folder.

    Parameters
    ----------
    stored
        Array of h5py or zarr.
    path
        The .h5ad file or zarr folder.
    """
    kinds = (Hdf5Values,) if path.is_file() else (ZarrValues, ShardedValues)
    fast = next((values for kind in kinds if (values := kind.of(stored, path)) is not None), None)
    return (lambda start, stop: np.asarray(stored[start:stop])) if fast is None else fast.read


class ChunkedValues:
    """A one-dimensional array in chunks of `length` values. Threads may read at the same time."""

    dtype: np.dtype[Any]
    length: int

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return values start … stop - 1.

        Raises
        ------
        Exception
            EOFError or OSError if a chunk is cut short or lost; ValueError or an error of the library that decompresses for damage.
        """
        values = np.empty(stop - start, self.dtype)
        for number in range(start // self.length, -(-stop // self.length)):
            begin = number * self.length
            first, last = max(start, begin), min(stop, begin + self.length)
            self.fill(values[first - start : last - start], number, first - begin)
        return values

    def fill(self, values: NDArray[Any], number: int, first: int) -> None:
        """Fill `values` with those of chunk `number`, from its value `first` on."""
        raise NotImplementedError

    def decoded(self, content: Bytes, decoders: list[Decode]) -> NDArray[Any]:
        """Return all values of a chunk."""
        for decode in decoders:
            content = decode(content)
        values = np.frombuffer(content, self.dtype)
        if len(values) != self.length:
            raise ValueError(f"a chunk holds {len(values)} values; expected {self.length}")
        return values


class Hdf5Values(ChunkedValues):
    """A one-dimensional array of an HDF5 file."""

    def __init__(self, dataset: Any, path: Path, decoders: list[Decode]) -> None:
        self.dtype, self.decoders = dataset.dtype, decoders
        self.length = dataset.chunks[0] if dataset.chunks else max(1, len(dataset))
        n_chunks = -(-len(dataset) // self.length)
        self.offset, self.size = np.zeros(n_chunks, np.int64), np.zeros(n_chunks, np.int64)
        self.skipped = np.zeros(n_chunks, np.int64)
        """Bit i is set in a chunk that was stored without filter i."""
        if dataset.chunks:
            dataset.id.chunk_iter(self._note)
        else:
            self.offset[:], self.size[:] = dataset.id.get_offset(), len(dataset) * self.dtype.itemsize
        self.fill_value = dataset.fillvalue
        self._descriptor = os.open(path, os.O_RDONLY)
        # Not at the end of the process: threads that still read would then read from a file that was opened since.
        weakref.finalize(self, os.close, self._descriptor).atexit = False

    @classmethod
    def of(cls, dataset: Any, path: Path) -> Hdf5Values | None:
        """Return the array, or None if its bytes lie elsewhere than in chunks of the file, or if a filter is not known here."""
        settings, itemsize = dataset.id.get_create_plist(), dataset.dtype.itemsize
        known: dict[int, Callable[[int], Decode]] = {
            GZIP: lambda n_bytes: partial(_inflated, n_bytes=n_bytes),
            SHUFFLE: lambda n_bytes: partial(_unshuffled, itemsize=itemsize),
            ZSTD: lambda n_bytes: _zstd,
        }
        filters = [settings.get_filter(number)[0] for number in range(settings.get_nfilters())]
        has_known_chunks = (
            hasattr(os, "preadv")
            and dataset.dtype.kind in "iufb"
            and dataset.file.userblock_size == 0
            and settings.get_external_count() == 0
            and not dataset.is_virtual
            and set(filters) <= set(known)
            and (hasattr(dataset.id, "chunk_iter") if dataset.chunks else dataset.id.get_offset() is not None)
        )
        if not has_known_chunks:
            return None
        n_bytes = itemsize * (dataset.chunks or dataset.shape)[0]
        return cls(dataset, path, [known[code](n_bytes) for code in filters])

    def _note(self, chunk: Any) -> None:
        number = chunk.chunk_offset[0] // self.length
        self.offset[number], self.size[number] = chunk.byte_offset, chunk.size
        self.skipped[number] = chunk.filter_mask

    def fill(self, values: NDArray[Any], number: int, first: int) -> None:
        """Fill `values` with those of a chunk; a chunk that was never written holds the fill value."""
        size, offset, skipped = int(self.size[number]), int(self.offset[number]), int(self.skipped[number])
        decoders = [decode for bit, decode in enumerate(self.decoders) if not skipped >> bit & 1]
        if not size:
            values[...] = self.fill_value
        elif not decoders:
            self._read_bytes(values.view(np.uint8), offset + first * self.dtype.itemsize)
        else:
            content = np.empty(size, np.uint8)
            self._read_bytes(content, offset)
            values[...] = self.decoded(content, decoders[::-1])[first : first + len(values)]

    def _read_bytes(self, content: Bytes, offset: int) -> None:
        view, n_read = memoryview(content), 0
        while n_read < len(view):
            n_more = os.preadv(self._descriptor, [view[n_read:]], offset + n_read)
            if n_more == 0:
                raise EOFError("the file ends before its last chunk")
            n_read += n_more


class ZarrValues(ChunkedValues):
    """A one-dimensional array of a zarr folder, one file a chunk."""

    def __init__(self, array: Any, folder: Path, decoders: list[Decode]) -> None:
        self.dtype, self.decoders, self.length = array.dtype, decoders, array.chunks[0]
        self.folder, self.key = folder, array.metadata.encode_chunk_key

    @classmethod
    def of(cls, array: Any, path: Path) -> ZarrValues | None:
        """Return the array, or None if it has shards, filters or compressors that are not known here."""
        metadata: Any = getattr(array, "metadata", None)
        if not hasattr(metadata, "encode_chunk_key") or array.dtype.kind not in "iufb" or array.filters:
            return None
        if metadata.zarr_format == 2:
            decoders = [codec.decode for codec in array.compressors]
        else:
            found = v3_decoders([codec.to_dict() for codec in metadata.codecs])
            if found is None or not array.dtype.isnative:
                return None
            decoders = found
        return cls(array, path / array.path, decoders)

    def fill(self, values: NDArray[Any], number: int, first: int) -> None:
        """Fill `values` with those of a chunk."""
        content = (self.folder / self.key((number,))).read_bytes()
        values[...] = self.decoded(content, self.decoders)[first : first + len(values)]


class ShardedValues(ChunkedValues):
    """A one-dimensional array of a zarr folder (format 3), many chunks in a file.

    A file, called shard, ends with the place and size of each of its chunks and a checksum of these numbers (zarr's specification of the
    codec sharding_indexed, version 1.0). zarr takes milliseconds of Python for each chunk; here a chunk is one read.
    """

    def __init__(self, array: Any, folder: Path, decoders: list[Decode]) -> None:
        self.dtype, self.decoders, self.length = array.dtype, decoders, array.chunks[0]
        self.n_in_shard = array.shards[0] // array.chunks[0]
        self.folder, self.key, self.fill_value = folder, array.metadata.encode_chunk_key, array.fill_value
        self._index: dict[int, NDArray[np.uint64]] = {}

    @classmethod
    def of(cls, array: Any, path: Path) -> ShardedValues | None:
        """Return the array, or None if it has no shards, or shards of another kind."""
        from numcodecs import checksum32

        if not getattr(array, "shards", None) or array.dtype.kind not in "iufb" or not array.dtype.isnative:
            return None
        sharding, *outer = [codec.to_dict() for codec in array.metadata.codecs]
        configuration = dict(sharding["configuration"])
        decoders = v3_decoders(configuration.pop("codecs"))
        configuration.pop("chunk_shape")
        if outer or decoders is None or configuration != SHARD_INDEX or not hasattr(os, "pread"):
            return None
        if not hasattr(checksum32, "CRC32C"):  # numcodecs before 0.16.4 without the package crc32c
            return None
        return cls(array, path / array.path, decoders)

    def fill(self, values: NDArray[Any], number: int, first: int) -> None:
        """Fill `values` with those of a chunk; a chunk that was never written holds the fill value."""
        shard, inside = divmod(number, self.n_in_shard)
        descriptor = os.open(self.folder / self.key((shard,)), os.O_RDONLY)
        try:
            if shard not in self._index:
                self._index[shard] = self._read_index(descriptor)
            offset, size = self._index[shard][inside]
            if offset == size == EMPTY_CHUNK:
                values[...] = self.fill_value
                return
            content = os.pread(descriptor, int(size), int(offset))
        finally:
            os.close(descriptor)
        if len(content) != size:
            raise EOFError("the shard ends before its last chunk")
        values[...] = self.decoded(content, self.decoders)[first : first + len(values)]

    def _read_index(self, descriptor: int) -> NDArray[np.uint64]:
        """Return place and size of each chunk of a shard, (number of chunks, 2)."""
        from numcodecs.checksum32 import CRC32C

        n_bytes = 16 * self.n_in_shard
        content = os.pread(descriptor, n_bytes + 4, max(0, os.fstat(descriptor).st_size - n_bytes - 4))
        damaged = "the index of a shard is damaged"
        if len(content) != n_bytes + 4:
            raise ValueError(damaged)
        try:
            index = CRC32C(location="end").decode(content)
        except RuntimeError as error:
            raise ValueError(damaged) from error
        return np.frombuffer(index, "<u8").reshape(-1, 2)


EMPTY_CHUNK = 2**64 - 1
"""Place and size of a chunk that was never written."""
LITTLE_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
SHARD_INDEX = {"index_codecs": (LITTLE_BYTES, {"name": "crc32c"}), "index_location": "end"}
"""How zarr stores the index of a shard by default."""
NATIVE_BYTES = {"name": "bytes", "configuration": {"endian": sys.byteorder}}
"""Values of zarr format 3 that are stored as this processor reads them."""


def v3_decoders(codecs: Sequence[dict[str, Any]]) -> list[Decode] | None:
    """Return what decompresses a chunk of zarr format 3, or None if one of its codecs is not known here."""
    to_bytes, *rest = codecs
    names = [str(codec["name"]) for codec in rest]
    if to_bytes != NATIVE_BYTES or not set(names) <= set(V3_CODECS):
        return None
    return [V3_CODECS[name] for name in names[::-1]]


def _inflated(content: Bytes, n_bytes: int) -> Bytes:
    return decompress(content, 15, n_bytes)


def _unshuffled(content: Bytes, itemsize: int) -> Bytes:
    planes = np.frombuffer(content, np.uint8).reshape(itemsize, -1)
    return np.ascontiguousarray(planes.T).reshape(-1)


def _zstd(content: Bytes) -> Bytes:
    from numcodecs.zstd import decompress

    return decompress(content)


def _blosc(content: Bytes) -> Bytes:
    from numcodecs.blosc import decompress

    return decompress(content)


def _gunzip(content: Bytes) -> Bytes:
    return decompress(content, 31)


V3_CODECS: dict[str, Decode] = {"zstd": _zstd, "blosc": _blosc, "gzip": _gunzip}
"""Compressors of zarr format 3 by name."""
