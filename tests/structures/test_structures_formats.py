"""Formats against hand-worked arrays and plain loops."""

import struct
import zlib

import numpy as np
import pytest
import torch

from cofit.core import FileError, StructureError, UnknownNameError, numpy_generator
from cofit.structures import from_bytes, parse, to_bytes
from cofit.structures.formats import decoder, index_type


def arrays_of(text, weight):
    return {name: a.tolist() for name, a in parse(text).encode(weight).arrays.items()}


def test_csr_by_hand():
    weight = np.zeros((2, 2, 1, 2), np.float32)
    weight[0, 1, 0, 0], weight[0, 0, 0, 1], weight[1, 1, 0, 1] = 5, 6, 7
    assert arrays_of("unstructured@2", weight) == {
        "count": [2, 1],
        "index": [1, 2, 3],  # c*R*S + s
        "values": [6, 5, 7],
    }


def test_ocb_by_hand():
    weight = np.zeros((3, 3, 1, 2), np.int8)
    weight[0, 0, 0, 1] = 1  # group 0, input pair 0, position 1
    weight[1, 2, 0, 0] = 2  # group 0, input pair 1 (ragged), position 0
    weight[2, 1, 0, 1] = 3  # group 1 (ragged), input pair 0, position 1
    assert arrays_of("block2x2@2", weight) == {
        "count": [2, 1],
        "index": [1, 2, 1],
        "values": [[[1, 0], [0, 0]], [[0, 0], [2, 0]], [[0, 3], [0, 0]]],
    }


def test_kept_by_hand():
    weight = np.zeros((4, 1, 1, 2), np.float32)
    weight[2] = [[[1, 0]]]
    assert arrays_of("channel@2", weight) == {"kept": [2], "values": [[[[1, 0]]]]}


def test_nm_by_hand():
    weight = np.array([[0, 8, 0, 9, 7], [0, 0, 0, 1, 0]], np.float32)
    # channel 1 has one non-zero in its first group: lane 0 holds a zero; the last group of one
    # weight has one spare lane, written as lane 0 with value 0
    assert arrays_of("nm2:4", weight) == {
        "lane": [[[1, 3], [0, 0]], [[0, 3], [0, 0]]],
        "values": [[[8, 9], [7, 0]], [[0, 1], [0, 0]]],
    }


def test_nibbles_by_hand():
    weight = np.array([[1, -1, 7], [-7, 0, 2]], np.int8)
    assert arrays_of("int4", weight) == {"values": [[0xF1, 0x07], [0x09, 0x02]]}
    packed = parse("unstructured@1.2+int4").encode(weight)
    assert packed.format == "csr+int4"
    assert packed.arrays["values"].tolist() == [[0xF1, 0x97, 0x02]]  # one row of five


def test_float_weights_on_a_grid_store_levels_and_scale():
    weight = parse("block2x1@2+int8").project(torch.randn(4, 3, generator=torch.manual_seed(0)))
    encoding = parse("block2x1@2+int8").encode(weight.numpy())
    assert encoding.format == "ocb+int8"
    assert encoding.arrays["values"].dtype == np.int8
    assert encoding.arrays["scale"].dtype == np.float32 and encoding.arrays["scale"].shape == (4,)


def test_int8_elements_at_8_bits_are_the_inner_format():
    weight = np.ones((4, 2), np.int8)
    assert parse("int8").encode(weight).format == "dense"
    assert parse("block2x1@1+int8").encode(weight).format == "ocb"


@pytest.mark.parametrize("text", ["unstructured@4", "block16x1@4", "block4x4@4"])
def test_indices_widen_only_when_they_must(text):
    # 65536 positions per output channel need more than uint16 can count
    for channels, kind in ((65535, "<u2"), (65536, "<u4")):
        weight = np.zeros((1, channels), np.float32)
        weight[0, -1] = 1
        encoding = parse(text.replace("block16", "block1").replace("block4", "block1")).encode(
            weight
        )
        wide = channels // 4 if "x4" in text else channels
        assert encoding.arrays["index"].dtype == index_type(wide), kind
        assert np.array_equal(encoding.decode(), weight)


def test_removed_negative_zeros_read_as_zero():
    weight = np.array([[-0.0, 2.0, -0.0, 1.0]], np.float32)
    decoded = parse("unstructured@2").encode(weight).decode()
    assert np.array_equal(decoded, weight) and not np.signbit(decoded).any()


def test_kept_special_values_survive():
    weight = np.array([[np.nan, np.float32(1e-45), 0, np.inf]], np.float32)
    weight.view(np.uint32)[0, 0] |= 0x123  # a payload that only a copy preserves
    decoded = parse("unstructured@1").encode(weight).decode()
    assert decoded.tobytes() == weight.tobytes()


@pytest.mark.parametrize("text", ["block16x1@4", "pattern8g4@4", "unstructured@3+int4"])
def test_every_corrupted_byte_is_noticed(text):
    weight = parse(text).project(torch.randn(18, 3, 3, 3, generator=torch.manual_seed(1)))
    blob = to_bytes(parse(text).encode(weight.numpy()))
    generator = numpy_generator(0, text)
    for at in generator.integers(0, len(blob), 200):
        damaged = bytearray(blob)
        damaged[at] ^= int(generator.integers(1, 256))
        with pytest.raises(FileError):
            from_bytes(bytes(damaged))
    for length in (0, 3, 10, len(blob) // 2, len(blob) - 1):
        with pytest.raises(FileError):
            from_bytes(blob[:length])
    with pytest.raises(FileError):
        from_bytes(blob + b"\0")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"shape":[4,2]', b'"shape":[1,2]'),  # counts of more groups than there are
        (b'"shape":[4,2]', b'"shape":[4,-2]'),
        (b'"shape":[4,2]', b'"shape":"ab"'),
        (b'"format":"ocb"', b'"format":"xyz"'),
        (b'"out":2', b'"out":0'),
        (b'"out":2', b'"tuo":2'),
        (b'"<f4"', b'"|O8"'),
        (b'"count"', b'"tnuoc"'),
    ],
)
def test_forged_headers_are_refused(old, new):
    blob = to_bytes(parse("block2x1@1").encode(np.ones((4, 2), np.float32)))
    assert old in blob
    header = blob[10 : 10 + int.from_bytes(blob[6:10], "little")]
    forged = header.replace(old, new)
    body = blob[:6] + struct.pack("<I", len(forged)) + forged + blob[10 + len(header) : -4]
    with pytest.raises(FileError, match="contradicts itself"):
        from_bytes(body + struct.pack("<I", zlib.crc32(body)))


def test_other_versions_are_refused():
    blob = bytearray(to_bytes(parse("int8").encode(np.ones((1, 1), np.int8))))
    blob[4] = 9
    with pytest.raises(FileError, match=r"version 9.* reads 1"):
        from_bytes(bytes(blob))


def test_unknown_format_is_named():
    with pytest.raises(UnknownNameError, match=r"weight format 'obc'.*'ocb'"):
        decoder("obc")


def test_only_members_of_known_types_are_stored():
    block = parse("block2x1@2")
    with pytest.raises(StructureError, match=r"not block2x1@2, at .*8 blocks are not zero, 4"):
        block.encode(np.ones((4, 4), np.float32))
    with pytest.raises(StructureError, match="float64 elements; give float32 or int8"):
        block.encode(np.zeros((4, 4)))
    with pytest.raises(StructureError, match=r"0\.3 is not on the int8 grid"):
        parse("int8").encode(np.array([[127.0, 0.3]], np.float32))
    with pytest.raises(StructureError, match=r"8 is outside -7\.\.7"):
        parse("int4").encode(np.array([[1, 8]], np.int8))
