"""Zips as providers make them, and as they should not be."""

import io
import zipfile

import numpy as np


def members(count=40, seed=0):
    """Name to content: text that compresses and noise that does not, in folders."""
    rng = np.random.default_rng(seed)
    content = {}
    for i in range(count):
        size = int(rng.integers(0, 20_000))
        body = rng.bytes(size) if i % 2 else b"well,site\n" * (size // 10)
        content[f"set/images/HUVEC-{i % 4:02d}/Plate1/B{i:02d}_s1_w1.png"] = body
    return content


def zip_bytes(content, *, method=zipfile.ZIP_DEFLATED, comment=b"", streamed=False):
    """A zip; ``streamed`` writes data descriptors, as tools that write to a pipe do."""
    stream = _Pipe() if streamed else io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.comment = comment
        for name, body in content.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            archive.writestr(info, body)
    return stream.getvalue()


class _Pipe(io.RawIOBase):
    """Takes bytes, cannot seek."""

    def __init__(self):
        self.parts = []

    def writable(self):
        return True

    def write(self, data):
        self.parts.append(bytes(data))
        return len(data)

    def getvalue(self):
        return b"".join(self.parts)
