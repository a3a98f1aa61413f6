"""Decoding, checking and resizing, against independent decoders and brute force."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.transform import downscale_local_mean

from morphobench.errors import DataError
from morphobench.images.decode import PNG, check_pixels, decode_image, resize

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (40, 30), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (40, 30), dtype=np.uint16)
SMOOTH = np.add.outer(np.arange(40), 2 * np.arange(30)).astype(np.uint8)


def pillow(image: np.ndarray, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def tiff(image: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, image, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (pillow(GREY8, "PNG"), GREY8),
        (pillow(GREY16, "PNG"), GREY16),
        (tiff(GREY8), GREY8),
        (tiff(GREY16, compression="lzw"), GREY16),
        (tiff(GREY16, compression="zlib", tile=(16, 16)), GREY16),
        (tiff(GREY16, byteorder=">"), GREY16),
        (pillow(np.repeat(GREY8[..., None], 3, axis=2), "PNG"), GREY8),
        (tiff(np.repeat(GREY8[..., None], 3, axis=2), photometric="rgb"), GREY8),
        (pillow(np.dstack([GREY8] * 3 + [np.full_like(GREY8, 255)]), "PNG"), GREY8),
    ],
)
def test_lossless_images_come_back_exactly(content, expected):
    image = decode_image(content, "x", dtype=expected.dtype, shape=expected.shape)
    np.testing.assert_array_equal(image, expected)
    assert image.flags.c_contiguous
    assert image.dtype.isnative


def test_jpg_grey_or_stored_as_colours():
    for image in (SMOOTH, np.repeat(SMOOTH[..., None], 3, axis=2)):
        decoded = decode_image(pillow(image, "JPEG", quality=95), "x.jpg")
        assert decoded.shape == SMOOTH.shape
        assert np.abs(decoded.astype(int) - SMOOTH).max() < 12


def test_stack_of_planes_only_when_asked():
    planes = RNG.integers(0, 65536, (3, 20, 10), dtype=np.uint16)
    for content in (tiff(planes, photometric="minisblack"), tiff(planes, imagej=True)):
        np.testing.assert_array_equal(decode_image(content, "x", stack=True), planes)
        with pytest.raises(DataError, match=r"^a\.tif: TIFF has 3 pages, expected 1$"):
            decode_image(content, "a.tif")
    assert decode_image(tiff(GREY16), "x", stack=True).shape == (1, *GREY16.shape)
    assert decode_image(pillow(GREY8, "PNG"), "x", stack=True).shape == (1, *GREY8.shape)
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(GREY8)
        writer.write(GREY16[:10])
    with pytest.raises(DataError, match="2 images"):
        decode_image(stream.getvalue(), "x", stack=True)


CONTENTS = {
    "PNG": pillow(SMOOTH, "PNG"),
    "PNG16": pillow(GREY16, "PNG"),
    "JPG": pillow(SMOOTH, "JPEG"),
    "TIFF": tiff(GREY16),
    "TIFF lzw": tiff(GREY16, compression="lzw"),
}


@pytest.mark.parametrize("kind", CONTENTS)
@settings(deadline=None, max_examples=60)
@given(share=st.floats(0, 1, exclude_max=True))
def test_any_truncation_is_one_sentence_with_the_name(kind, share):
    content = CONTENTS[kind]
    with pytest.raises(DataError, match=r"^plate/B02\.img: [^\n]+$"):
        decode_image(content[: int(share * len(content))], "plate/B02.img")


@settings(deadline=None, max_examples=80)
@given(at=st.integers(8, len(CONTENTS["PNG"]) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_png_is_found(at, bit):
    content = bytearray(CONTENTS["PNG"])
    content[at] ^= 1 << bit
    with pytest.raises(DataError, match="^x: PNG is"):
        decode_image(bytes(content), "x")


def low_bits(bits: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0))
    return PNG + head + chunk(b"IDAT", zlib.compress(b"\0" + bytes(bits))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        (pillow(GREY16, "PNG"), {"dtype": np.uint8}, "pixels are 16-bit, expected 8-bit"),
        (pillow(GREY8, "PNG"), {"dtype": np.uint16}, "pixels are 8-bit, expected 16-bit"),
        (tiff(GREY16), {"dtype": "uint8"}, "pixels are 16-bit, expected 8-bit"),
        (tiff(GREY8), {"dtype": "uint16"}, "pixels are 8-bit, expected 16-bit"),
        (tiff(GREY16.astype(np.float32)), {}, "pixels are float32, expected 8-bit or 16-bit"),
        (pillow(GREY8, "PNG"), {"shape": (40, 40)}, "image is 40 x 30, expected 40 x 40"),
        (pillow(GREY8 > 100, "PNG"), {}, "PNG is 1-bit grey, expected 8-bit or 16-bit grey"),
        (low_bits(4), {}, "PNG is 4-bit grey, expected 8-bit or 16-bit grey"),
        (pillow(RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8), "PNG"), {}, "image has colours, expected grey"),
        (b"<html>", {}, "starts with b'<html>', expected a PNG, JPG or TIFF image"),
        (b"", {}, "is empty, expected a PNG, JPG or TIFF image"),
    ],
)
def test_other_images_than_expected(content, options, sentence):
    with pytest.raises(DataError) as caught:
        decode_image(content, "p/x.png", **options)
    assert str(caught.value) == f"p/x.png: {sentence}"


def test_check_pixels():
    good = RNG.integers(10, 250, (2, 10, 10)).astype(np.uint8)
    assert check_pixels(good) is None
    assert check_pixels(np.full((5, 5), 7, np.uint16)) == "constant: every pixel is 7"
    bad = good.copy()
    bad[1, :3] = 255
    assert check_pixels(bad) == "channel 1 is saturated: 30% of the pixels are 255"
    assert check_pixels(bad, saturated=0.3) is None
    camera = good.astype(np.uint16)
    camera[0, :5] = 4095
    assert check_pixels(camera) is None
    assert check_pixels(camera[0], ceiling=4095) == "saturated: 50% of the pixels are 4095"


def brute_force(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Means over areas in exact fractions: each old pixel is cut into as many parts as the new grid needs."""
    height, width = image.shape
    fine = np.repeat(np.repeat(image.astype(object), size[0], axis=0), size[1], axis=1)
    out = np.empty(size, image.dtype)
    for i in range(size[0]):
        for j in range(size[1]):
            total = int(fine[i * height : (i + 1) * height, j * width : (j + 1) * width].sum())
            out[i, j] = (2 * total + height * width) // (2 * height * width)
    return out


@settings(deadline=None, max_examples=40)
@given(
    old=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    shares=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)),
    kind=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 99),
)
def test_resize_is_the_mean_over_areas(old, shares, kind, seed):
    image = np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, old).astype(kind)
    size = tuple(max(1, int(o * s)) for o, s in zip(old, shares, strict=True))
    result = resize(image, size)
    assert result.dtype == kind
    np.testing.assert_array_equal(result, brute_force(image, size))


@pytest.mark.parametrize(("dtype", "side"), [(np.uint8, 96), (np.uint16, 96), (np.uint16, 1080), (np.uint8, 2160)])
def test_resize_by_a_whole_factor_is_the_block_mean(dtype, side):
    image = RNG.integers(0, np.iinfo(dtype).max + 1, (2, side, side)).astype(dtype)
    image[1] = np.iinfo(dtype).max
    expected = np.floor(downscale_local_mean(image, (1, 4, 4)) + 0.5)
    result = resize(image, side // 4)
    np.testing.assert_array_equal(result, expected)
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(resize(image, side), image)


def test_resize_keeps_what_no_grid_should_show():
    flat = np.full((3, 50, 70), 65535, np.uint16)
    np.testing.assert_array_equal(resize(flat, (33, 41)), 65535)
    fine = np.tile(np.array([0, 255], np.uint8), (64, 32))
    smooth = resize(fine, 20)
    assert smooth.min() > 60
    assert smooth.max() < 195


def test_resize_refuses_to_enlarge_and_other_types():
    with pytest.raises(DataError, match="image is 40 x 30 and cannot be enlarged to 64 x 64"):
        resize(GREY8, 64)
    with pytest.raises(DataError, match="float64, expected uint8 or uint16"):
        resize(GREY8 / 2, 10)
