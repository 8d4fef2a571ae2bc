"""Ranges of a stored array are those that h5py and zarr read, for every type, filter and chunk; damage raises."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numcodecs import Zstd

from sparcell.errors import InputError
from sparcell.io import chunks
from sparcell.io.chunks import Hdf5Values, ShardedValues, ZarrValues, values_reader
from sparcell.io.hdf5_filters import require_filters

TYPES = ["<f4", "<f8", ">f4", "<i2", "<i4", "<u4", "<i8", "bool"]
HDF5_SETTINGS = [
    {},
    {"chunks": (7,)},
    {"chunks": (30,), "compression": "gzip"},
    {"chunks": (30,), "compression": "gzip", "shuffle": True},
    {"chunks": (101,), "compression": "gzip", "shuffle": True},
    {"chunks": (30,), "shuffle": True},
]


def sample(dtype, n=101):
    return (np.random.default_rng(0).integers(0, 5, n)).astype(dtype)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dtype=st.sampled_from(TYPES),
    how=st.sampled_from(HDF5_SETTINGS),
    bounds=st.tuples(st.integers(0, 101), st.integers(0, 101)),
)
def test_ranges_of_an_hdf5_array(tmp_path, dtype, how, bounds):
    start, stop = sorted(bounds)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("values", data=sample(dtype), **how)
    with h5py.File(path) as file:
        assert Hdf5Values.of(file["values"], path) is not None
        found = values_reader(file["values"], path)(start, stop)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, sample(dtype)[start:stop])


@pytest.mark.parametrize("how", [{"compression": "lzf"}, {"compression": "gzip", "fletcher32": True}])
def test_an_array_with_another_filter_is_read_by_h5py(tmp_path, how):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("values", data=sample("<f4"), chunks=(30,), **how)
        assert Hdf5Values.of(file["values"], path) is None
        np.testing.assert_array_equal(values_reader(file["values"], path)(20, 90), sample("<f4")[20:90])


def test_values_before_which_a_user_put_other_bytes_are_read_by_h5py(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["values"] = sample("<f4")
        file.flush()
        np.testing.assert_array_equal(values_reader(file["values"], path)(20, 90), sample("<f4")[20:90])


def test_chunks_that_were_never_written_hold_the_fill_value(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        values = file.create_dataset("values", (90,), "f4", chunks=(30,), compression="gzip", fillvalue=3)
        values[30:60] = 1
        file.flush()
        np.testing.assert_array_equal(
            values_reader(values, path)(0, 90), np.repeat([3, 1, 3], 30).astype("f4")
        )


def test_a_chunk_that_was_stored_without_its_filter_is_read(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        values = file.create_dataset("values", (60,), "f4", chunks=(30,), compression="gzip")
        values[:] = 1
        values.id.write_direct_chunk((30,), np.arange(30, dtype="f4").tobytes(), filter_mask=1)
        file.flush()
        np.testing.assert_array_equal(values_reader(values, path)(25, 60), [*[1] * 5, *range(30)])


def test_zstandard_in_hdf5_is_read(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        values = file.create_dataset(
            "values", (60,), "f4", chunks=(30,), compression=chunks.ZSTD, allow_unknown_filter=True
        )
        for start in (0, 30):
            content = np.arange(start, start + 30, dtype="f4").tobytes()
            values.id.write_direct_chunk((start,), Zstd().encode(content))
        file.flush()
        np.testing.assert_array_equal(values_reader(values, path)(10, 50), np.arange(10, 50))


def test_a_filter_that_is_not_installed_is_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("obs/x", (60,), "f4", chunks=(30,), compression=32_765, allow_unknown_filter=True)
        with pytest.raises(
            InputError, match=r"obs/x in a\.h5 is compressed with HDF5 filter 32765.*hdf5plugin"
        ):
            require_filters(file, "a.h5")


@pytest.mark.parametrize("library", ["isal", "zlib"])
def test_the_checksum_of_gzip_finds_every_flipped_byte(tmp_path, monkeypatch, library):
    module = {"isal": "isal.isal_zlib", "zlib": "zlib"}[library]
    decompress = pytest.importorskip(module).decompress
    monkeypatch.setattr(chunks, "decompress", decompress)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("values", data=sample("<f4"), chunks=(101,), compression="gzip")
    with h5py.File(path) as file:
        chunk = file["values"].id.get_chunk_info(0)
        read = values_reader(file["values"], path)
        np.testing.assert_array_equal(read(0, 101), sample("<f4"))
        whole = path.read_bytes()
        for place in range(
            2, chunk.size
        ):  # the first two bytes say how it was compressed, and not all of them matter
            content = bytearray(whole)
            content[chunk.byte_offset + place] ^= 0x10
            with path.open("r+b") as damaged:
                damaged.write(content)
            try:
                values = read(0, 101)
            except Exception:  # each library has an error of its own
                continue
            np.testing.assert_array_equal(values, sample("<f4"), f"byte {place}")


def test_a_file_that_was_cut_short_is_told(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["values"] = sample("<f4")
    with h5py.File(path) as file:
        read = values_reader(file["values"], path)
        with path.open("r+b") as short:
            short.truncate(file["values"].id.get_offset() + 100)
        with pytest.raises(EOFError, match="ends before"):
            read(0, 101)


def codecs(version):
    from numcodecs import Blosc, GZip

    if version == 2:
        return [None, Zstd(), Blosc(shuffle=1), GZip()]
    return [None, zarr.codecs.ZstdCodec(), zarr.codecs.BloscCodec(), zarr.codecs.GzipCodec()]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("dtype", ["<f4", "<i8"])
def test_ranges_of_a_zarr_array(tmp_path, version, number, dtype):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    values = root.create_array(
        "X/values", shape=(101,), dtype=dtype, chunks=(30,), compressors=codecs(version)[number]
    )
    values[:] = sample(dtype)
    assert ZarrValues.of(values, tmp_path / "a.zarr") is not None
    read = values_reader(values, tmp_path / "a.zarr")
    for start, stop in [(0, 101), (29, 31), (30, 60), (95, 101), (5, 5)]:
        np.testing.assert_array_equal(read(start, stop), sample(dtype)[start:stop])


def sharded(folder, dtype="<f4", **how):
    """101 values in chunks of 10, six in a shard."""
    root = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=3)
    values = root.create_array("X/values", shape=(101,), dtype=dtype, chunks=(10,), shards=(60,), **how)
    values[:] = sample(dtype)
    return values


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("dtype", ["<f4", "<u2"])
def test_ranges_of_a_zarr_array_with_shards(tmp_path, number, dtype):
    values = sharded(tmp_path, dtype, compressors=codecs(3)[number])
    assert ShardedValues.of(values, tmp_path / "a.zarr") is not None
    read = values_reader(values, tmp_path / "a.zarr")
    for start, stop in [(0, 101), (9, 11), (59, 61), (30, 60), (95, 101), (5, 5)]:
        np.testing.assert_array_equal(read(start, stop), sample(dtype)[start:stop])


def test_a_chunk_of_a_shard_that_was_never_written_holds_the_fill_value(tmp_path):
    values = sharded(tmp_path, fill_value=7)
    values[20:40] = 7
    expected = np.concatenate([sample("<f4")[:20], np.full(20, 7), sample("<f4")[40:]])
    np.testing.assert_array_equal(values_reader(values, tmp_path / "a.zarr")(0, 101), expected)


def test_a_damaged_or_lost_shard_is_told(tmp_path):
    values = sharded(tmp_path)
    path = tmp_path / "a.zarr/X/values/c/0"
    whole = path.read_bytes()
    for place in range(len(whole) - 6 * 16 - 4, len(whole)):  # the index and its checksum
        content = bytearray(whole)
        content[place] ^= 1
        path.write_bytes(content)
        with pytest.raises(ValueError, match="index of a shard is damaged"):
            values_reader(values, tmp_path / "a.zarr")(0, 5)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="index of a shard is damaged"):
        values_reader(values, tmp_path / "a.zarr")(0, 5)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        values_reader(values, tmp_path / "a.zarr")(50, 55)


@pytest.mark.parametrize(
    "how",
    [
        {"serializer": zarr.codecs.ShardingCodec(chunk_shape=(10,), index_location="start")},
        {"serializer": zarr.codecs.ShardingCodec(chunk_shape=(10,), index_codecs=[zarr.codecs.BytesCodec()])},
    ],
)
def test_shards_of_another_kind_are_read_by_zarr(tmp_path, how):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    values = root.create_array(
        "values", shape=(101,), dtype="f4", chunks=(60,), compressors=None, filters=None, **how
    )
    values[:] = sample("f4")
    assert ShardedValues.of(values, tmp_path / "a.zarr") is None
    np.testing.assert_array_equal(values_reader(values, tmp_path / "a.zarr")(20, 90), sample("f4")[20:90])


@pytest.mark.parametrize(
    "how", [{"shards": (60,)}, {"dtype": ">f4"}, {"compressors": zarr.codecs.Crc32cCodec()}]
)
def test_a_zarr_array_of_another_kind_is_read_by_zarr(tmp_path, how):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    values = root.create_array("values", **({"shape": (101,), "dtype": "f4", "chunks": (30,)} | how))
    values[:] = sample("f4")
    assert ZarrValues.of(values, tmp_path / "a.zarr") is None
    np.testing.assert_array_equal(values_reader(values, tmp_path / "a.zarr")(20, 90), sample("f4")[20:90])


def test_a_lost_chunk_of_zarr_is_told(tmp_path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    values = root.create_array("values", shape=(101,), dtype="f4", chunks=(30,))
    values[:] = 1
    (tmp_path / "a.zarr/values/2").unlink()
    with pytest.raises(FileNotFoundError):
        values_reader(values, tmp_path / "a.zarr")(50, 70)
