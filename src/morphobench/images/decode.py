"""From a provider's bytes to arrays: PNG and JPG by pillow, TIFF by tifffile; checks and exact area resizing."""

from __future__ import annotations

import io
import zlib
from functools import cache
from typing import Any

import numpy as np

from morphobench.errors import DataError

PNG = b"\x89PNG\r\n\x1a\n"
JPG = b"\xff\xd8\xff"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def decode_image(
    content: bytes,
    where: str,
    *,
    dtype: Any = None,
    shape: tuple[int, ...] | None = None,
    stack: bool = False,
) -> np.ndarray:
    """Decode one grey image.

    Grey stored as three equal colour channels becomes one channel.

    Parameters
    ----------
    content
        A whole PNG, JPG or TIFF file; told apart by their first bytes, not by a name.
    where
        The file's name, for errors.
    dtype
        The expected type of a pixel; by default uint8 or uint16.
    shape
        The expected shape of the result; by default any.
    stack
        Whether a file of several pages (a TIFF of z planes or channels) is expected. Its pages are all returned.

    Returns
    -------
    ndarray
        (H, W), or (pages, H, W) if ``stack``; C-contiguous, native byte order.

    Raises
    ------
    DataError
        If the file is truncated or damaged, has colours, or is not of the expected type, shape or number of pages.
    """
    if content.startswith((PNG, JPG)):
        image = _decode_pillow(content, where)
        image = image[None] if stack else image
    elif content.startswith(TIFF):
        image = _decode_tiff(content, where, stack)
    else:
        what = f"starts with {content[:8]!r}" if content else "is empty"
        raise DataError(f"{where}: {what}, expected a PNG, JPG or TIFF image")
    known = (np.dtype(dtype),) if dtype is not None else (np.dtype(np.uint8), np.dtype(np.uint16))
    image = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
    if image.dtype not in known:
        raise DataError(f"{where}: pixels are {_depth(image.dtype)}, expected {' or '.join(map(_depth, known))}")
    if shape is not None and image.shape != tuple(shape):
        raise DataError(f"{where}: image is {_times(image.shape)}, expected {_times(shape)}")
    return image


def _depth(dtype: np.dtype) -> str:
    return f"{8 * dtype.itemsize}-bit" if dtype.kind == "u" else str(dtype)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(s) for s in shape)


def _decode_pillow(content: bytes, where: str) -> np.ndarray:
    from PIL import Image

    png = content.startswith(PNG)
    if png:
        _check_png(content, where)
    elif b"\xff\xd9" not in content[-1024:]:
        raise DataError(f"{where}: JPG is truncated, its end marker is missing")
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode == "P":
                image = image.convert("RGBA" if "transparency" in image.info else "RGB")
            elif image.mode == "I":  # pillow before 11.3 reads 16-bit grey PNG as 32 bits
                return np.asarray(image).astype(np.uint16)
            pixels = np.asarray(image)
    except Exception as error:  # pillow's decoders raise many types on damaged bytes
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{where}: {'PNG' if png else 'JPG'} is truncated or damaged ({text})") from error
    return _one_channel(pixels, where)


def _check_png(content: bytes, where: str) -> None:
    # Pillow does not check the sums of pixel chunks, widens 1, 2 and 4 bits and narrows 16-bit colours silently.
    at, ended = len(PNG), False
    while at + 12 <= len(content) and not ended:
        size = int.from_bytes(content[at : at + 4], "big")
        body = content[at + 4 : at + 8 + size]
        if len(content) < at + 12 + size:
            break
        if zlib.crc32(body) != int.from_bytes(content[at + 8 + size : at + 12 + size], "big"):
            raise DataError(f"{where}: PNG is damaged, a checksum differs at byte {at}")
        if at == len(PNG) and size >= 10:
            bits, colour = body[12], body[13]
            if bits < 8 and colour == 0 or bits == 16 and colour != 0:
                kind = "grey" if colour == 0 else "colour"
                raise DataError(f"{where}: PNG is {bits}-bit {kind}, expected 8-bit or 16-bit grey")
        ended = body[:4] == b"IEND"
        at += 12 + size
    if not ended:
        raise DataError(f"{where}: PNG is truncated after {len(content)} bytes")


def _one_channel(pixels: np.ndarray, where: str) -> np.ndarray:
    if pixels.dtype == bool:
        raise DataError(f"{where}: image is 1-bit, expected 8-bit or 16-bit grey")
    if pixels.ndim == 2:
        return pixels
    count = pixels.shape[-1]
    if count in (2, 4) and (pixels[..., -1] != np.iinfo(pixels.dtype).max).any():
        raise DataError(f"{where}: image is partly transparent, expected grey")
    colours = pixels[..., : count - 1 if count in (2, 4) else count]
    if (colours != colours[..., :1]).any():
        raise DataError(f"{where}: image has colours, expected grey")
    return colours[..., 0]


def _decode_tiff(content: bytes, where: str, stack: bool) -> np.ndarray:
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            series = file.series
            if not series:
                raise ValueError("no image in it")
            # Missing strips would be read as zeros.
            for page in file.pages:
                ends = (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True))
                if max(ends, default=0) > len(content) or 0 in page.databytecounts:
                    raise ValueError(f"pixels beyond its {len(content)} bytes")
            pages = len(series[0].shape) > 2 and "S" not in series[0].axes or len(series) > 1
            if pages and not stack:
                count = len(file.pages) if len(series) > 1 else int(np.prod(series[0].shape[:-2]))
                raise DataError(f"{where}: TIFF has {count} pages, expected 1")
            if len(series) > 1:
                shapes = " and ".join(_times(s.shape) for s in series[:2])
                raise DataError(f"{where}: TIFF has {len(series)} images ({shapes}), expected one")
            axes, pixels = series[0].axes, series[0].asarray()
    except DataError:
        raise
    except Exception as error:  # tifffile and its codecs raise many types on damaged bytes
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{where}: TIFF is truncated or damaged ({text})") from error
    if "S" in axes:
        pixels = _one_channel(np.moveaxis(pixels, axes.index("S"), -1), where)
    return pixels.reshape(-1, *pixels.shape[-2:]) if stack else pixels


def check_pixels(image: np.ndarray, *, saturated: float = 0.2, ceiling: int | None = None) -> str | None:
    """Return why an image cannot be used, or None.

    Parameters
    ----------
    image
        (H, W) or (C, H, W) unsigned integers; each channel is checked by itself.
    saturated
        The largest allowed fraction of pixels at the ceiling.
    ceiling
        The value of a saturated pixel; by default the largest of the type. 4095 for a 12-bit camera.

    Returns
    -------
    str or None
        ``constant: every pixel is 0`` or ``saturated: 31% of the pixels are 255``, with ``channel 2 is`` before it
        for (C, H, W).
    """
    ceiling = int(np.iinfo(image.dtype).max) if ceiling is None else ceiling
    if image.ndim == 3:
        for index, channel in enumerate(image):
            if reason := check_pixels(channel, saturated=saturated, ceiling=ceiling):
                return f"channel {index} is {reason}"
        return None
    low, high = int(image.min()), int(image.max())
    if low == high:
        return f"constant: every pixel is {low}"
    if high >= ceiling:
        share = np.count_nonzero(image >= ceiling) / image.size
        if share > saturated:
            return f"saturated: {share:.0%} of the pixels are {ceiling}"
    return None


@cache
def _overlaps(old: int, new: int) -> Any:
    """Return the sparse (new, old) overlaps of pixels, in units of 1/new of an old pixel; each row sums to old."""
    from scipy.sparse import csr_array

    edges = np.union1d(np.arange(old + 1) * new, np.arange(new + 1) * old)
    starts, lengths = edges[:-1], np.diff(edges)
    return csr_array((lengths, (starts // old, starts // new)), shape=(new, old))


def resize(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Shrink an image by area averaging: a new pixel is the mean of the old area it covers.

    The sums are exact integers, rounded half up once, so the result is the same on every machine; where the old
    size is a multiple of the new one it is the mean of blocks.

    Parameters
    ----------
    image
        (..., H, W) uint8 or uint16.
    size
        New height and width, or one number for both; at most the old ones.

    Returns
    -------
    ndarray
        (..., h, w) of the same dtype, C-contiguous.
    """
    new = (size, size) if isinstance(size, int) else tuple(size)
    *lead, height, width = image.shape
    if image.dtype not in (np.uint8, np.uint16):
        raise DataError(f"image has type {image.dtype}, expected uint8 or uint16 to be resized")
    if new[0] > height or new[1] > width or min(new) < 1:
        raise DataError(
            f"image is {height} x {width} and cannot be enlarged to {_times(new)}; choose a smaller size"
        )
    if new == (height, width):
        return np.ascontiguousarray(image)
    total = height * width
    wide = np.int32 if 2 * int(np.iinfo(image.dtype).max) * total + total < 2**31 else np.int64
    rows, columns = (_overlaps(o, n).astype(wide) for o, n in zip((height, width), new, strict=True))
    flat = image.reshape(-1, height, width)
    result = np.empty((len(flat), *new), image.dtype)
    for out, plane in zip(result, flat, strict=True):
        sums = (columns @ (rows @ plane.astype(wide)).T).T
        out[...] = (2 * sums + total) // (2 * total)
    return result.reshape(*lead, *new)
