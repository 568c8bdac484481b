# SPDX-License-Identifier: MIT
"""Our safetensors files against those of the package safetensors: each reads the other's, and refuses as much."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from freewire.nn.tensor_file import read_header, read_tensors, write_tensors
from tests.support.networks import bits_of

TYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.float8_e5m2, torch.float8_e4m3fn),
    *(torch.int16, torch.float16, torch.bfloat16, torch.int32, torch.float32, torch.int64, torch.float64),
]


def written(tensors, metadata=None):
    file = io.BytesIO()
    write_tensors(file, tensors, metadata or {})
    return file.getvalue()


def read(raw, names=None):
    file = io.BytesIO(raw)
    header = read_header(file)
    return read_tensors(file, header, header.entries if names is None else names), header.metadata


def raw_file(header, payload=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


def entry(begin, end, shape=None, dtype="U8"):
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


def samples():
    torch.manual_seed(0)
    shapes = [(), (0,), (5,), (2, 3), (3, 0, 2)]
    return {f"{str(dtype)[6:]} {shape}": (torch.rand(shape) * 9).to(dtype) for dtype in TYPES for shape in shapes}


def assert_same_tensors(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        if tensor.numel():
            assert bits_of(found[name].reshape(-1)) == bits_of(tensor.reshape(-1)), name


class TestAgree:
    """Each reads what the other has written."""

    def test_theirs(self):
        raw = safetensors.torch.save(samples(), {"a": "b", "\N{SNOWMAN}": '"'})
        found, metadata = read(raw)
        assert_same_tensors(found, samples())
        assert metadata == {"a": "b", "\N{SNOWMAN}": '"'}

    def test_ours(self):
        assert_same_tensors(safetensors.torch.load(written(samples())), samples())
        assert_same_tensors(read(written(samples()))[0], samples())

    def test_no_metadata_and_no_tensor(self):
        assert read(safetensors.torch.save({})) == ({}, {})
        assert read(written({}, {"a": "b"})) == ({}, {"a": "b"})
        assert safetensors.torch.load(written({})) == {}

    def test_the_same_bytes(self):
        tensors = {"b": torch.ones(3), "a": torch.zeros(2, dtype=torch.int64), "c": torch.ones(5, dtype=torch.uint8)}
        assert written(tensors, {"format": "x"}) == safetensors.torch.save(tensors, {"format": "x"})

    def test_numpy_and_strided_arrays(self):
        base = np.arange(24, dtype=np.int64).reshape(4, 6)
        frozen = base.copy()
        frozen.flags.writeable = False
        big = base.astype(">i8")
        arrays = {"frozen": frozen, "strided": base[::2, ::3], "transposed": base.T, "big": big}
        found, _ = read(written({**arrays, "tensor": torch.arange(6.0).reshape(2, 3).t()}))
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name].numpy(), array)
        assert found["tensor"].tolist() == [[0, 3], [1, 4], [2, 5]]

    def test_only_named_arrays_are_read(self):
        assert read(written(samples()), {"bool (5,)", "other"})[0].keys() == {"bool (5,)"}

    def test_memory_is_aligned(self):
        raw = written({"a": torch.ones(3, dtype=torch.uint8), "b": torch.ones(1), "c": torch.ones(1).double()})
        header = read_header(io.BytesIO(raw))
        assert all((header.begin + e.begin) % e.dtype.itemsize == 0 for e in header.entries.values())


BAD = {
    "overlapping": {"a": entry(0, 4), "b": entry(2, 6)},
    "the same bytes twice": {"a": entry(0, 8), "b": entry(0, 8)},
    "a gap": {"a": entry(0, 3), "b": entry(5, 8)},
    "a gap at the front": {"a": entry(1, 8)},
    "bytes left": {"a": entry(0, 7)},
    "no array": {},
    "beyond the end": {"a": entry(0, 9)},
    "backwards": {"a": entry(8, 0, [8])},
    "larger than its place": {"a": entry(0, 8, [9])},
    "smaller than its place": {"a": entry(0, 8, [7])},
    "of another width": {"a": entry(0, 8, [8], "I16")},
    "a product that overflows": {"a": entry(0, 8, [2**32, 2**32, 8])},
    "a product that overflows before a 0": {"a": entry(0, 8), "b": entry(8, 8, [2**32, 2**32, 0])},
    "a number of 64 bits": {"a": entry(0, 2**64)},
    "a long product": {"a": entry(0, 8, [3] * 10**5)},
    "negative": {"a": entry(0, 8, [-8])},
    "negative twice": {"a": entry(0, 8, [-2, -4])},
    "negative offsets": {"a": entry(-8, 0, [8])},
    "a fraction": {"a": entry(0, 8, [8.0])},
    "a truth": {"a": entry(0, 8, [8, True])},
    "a text": {"a": entry(0, 8, ["8"])},
    "no list": {"a": entry(0, 8, 8)},
    "three offsets": {"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8, 8]}},
    "an unknown type": {"a": entry(0, 8, [8], "X8")},
    "a type that is no text": {"a": entry(0, 8, [8], ["U8"])},
    "no type": {"a": {"shape": [8], "data_offsets": [0, 8]}},
    "a list": [entry(0, 8)],
    "metadata of numbers": {"__metadata__": {"a": 1}, "a": entry(0, 8)},
    "a list of metadata": {"__metadata__": ["a"], "a": entry(0, 8)},
    "no JSON": b"{'a'}",
    "cut JSON": b'{"a": ',
    "two values": b"{} {}",
    "no UTF-8": b'{"\xff": 1}',
    "UTF-16": '{"a": 1}'.encode("utf-16-le"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "nested": b'{"a": ' + b"[" * 10**5 + b"]" * 10**5 + b"}",
    "nothing": b"",
}


class TestRefused:
    """What the package refuses, we refuse."""

    @pytest.mark.parametrize("case", BAD)
    def test_headers(self, case):
        raw = raw_file(BAD[case], bytes(8))
        with pytest.raises((SafetensorError, KeyError, TypeError)):
            safetensors.torch.load(raw)
        with pytest.raises((ValueError, RecursionError)):
            read_header(io.BytesIO(raw))

    def test_a_good_one_is_not(self):
        raw = raw_file({"a": entry(0, 3), "b": entry(3, 3, [2**40, 0]), "c": entry(3, 8)}, bytes(range(8)))
        assert_same_tensors(read(raw)[0], safetensors.torch.load(raw))

    @pytest.mark.parametrize(
        ("header", "why"),
        [
            (f'{{"a": {json.dumps(entry(0, 8))}, "a": {json.dumps(entry(0, 8))}}}', "the header has a name twice"),
            (f' {{"a": {json.dumps(entry(0, 8))}}}', "the header is cut short or not an object"),
            ('{"a": ["U8", [8], [0, 8]]}', "'a' is not described by its dtype"),
        ],
    )
    def test_what_the_package_tolerates(self, header, why):
        with pytest.raises(ValueError, match=why):
            read_header(io.BytesIO(raw_file(header.encode(), bytes(8))))

    def test_lengths_of_the_header(self):
        good = raw_file({"a": entry(0, 8)}, bytes(8))
        for length in (0, 1, len(good) - 7, len(good), 100_000_001, 2**63, 2**64 - 1):
            raw = struct.pack("<Q", length) + good[8:]
            with pytest.raises(SafetensorError):
                safetensors.torch.load(raw)
            with pytest.raises(ValueError):  # noqa: PT011 (of several kinds)
                read_header(io.BytesIO(raw))

    def test_a_header_that_is_too_large(self, tmp_path):
        with open(tmp_path / "sparse", "w+b") as file:
            file.write(struct.pack("<Q", 100_000_001) + b"{}")
            file.truncate(200_000_000)
            with pytest.raises(ValueError, match="a header of 100000001 bytes is too large"):
                read_header(file)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["U8", "I16", "F32", "BOOL", "X"]),
                st.lists(st.sampled_from([0, 1, 2, 3, 2**40]), max_size=3),
                st.lists(st.integers(0, 12), min_size=2, max_size=2).map(sorted),
            ),
            max_size=3,
        ),
        st.integers(0, 12),
    )
    def test_never_more_is_accepted(self, entries, size):
        header = {
            str(k): {"dtype": dtype, "shape": shape, "data_offsets": offsets}
            for k, (dtype, shape, offsets) in enumerate(entries)
        }
        raw = raw_file(header, bytes(range(size)))
        try:
            found, _ = read(raw)
        except ValueError:
            with pytest.raises((SafetensorError, KeyError)):
                safetensors.torch.load(raw)
        else:
            assert_same_tensors(found, safetensors.torch.load(raw))

    @given(st.data())
    def test_never_more_is_accepted_of_valid_ones(self, data):
        """Entries that fill the file, of which one number is changed."""
        sizes = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
        ends = np.cumsum([0, *sizes]).tolist()
        header = {str(k): entry(*ends[k : k + 2]) for k in range(len(sizes))}
        changed = header[data.draw(st.sampled_from(sorted(header)))]
        part = data.draw(st.sampled_from(["shape", "data_offsets"]))
        changed[part][data.draw(st.integers(0, len(changed[part]) - 1))] += data.draw(st.sampled_from([-1, 0, 1]))
        raw = raw_file(header, bytes(range(ends[-1])))
        try:
            found, _ = read(raw)
        except ValueError:
            with pytest.raises(SafetensorError):
                safetensors.torch.load(raw)
        else:
            assert_same_tensors(found, safetensors.torch.load(raw))
