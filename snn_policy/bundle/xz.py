"""Weights in the xz format: nothing is lost, about three quarters of the room, and `xz -d` gives the file itself.

Float32 weights are random in their last 23 bits; what is left to compress are their exponents. xz finds these where it
looks at every byte in its place of a four-byte word; the deflate of zip files and wheels does not.
"""

from snn_policy.checks import require

try:
    import lzma
except ImportError:  # a Python that was built without it
    lzma = None

MOST_GROWTH, SPARE_BYTES = 64, 2**20
"""A file of n bytes may hold `MOST_GROWTH` n + `SPARE_BYTES`: a small hostile one asks for little memory."""
MOST_MEMORY = 2**27
"""Bytes that the decoder itself may take; xz's own highest setting takes half."""
NO_LZMA = "this Python was built without lzma, which reads and writes .xz files"


def compress(content: bytes) -> bytes:
    """Return what `decompress` gives back.

    Raises:
        ValueError: content of so little information that `decompress` would refuse it.
    """
    if lzma is None:
        raise ValueError(NO_LZMA)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 2**22, "lc": 1, "lp": 2, "pb": 2}]
    packed = lzma.compress(content, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=filters)
    fits = len(content) <= _room(packed)
    require(fits, f"weights that shrink to less than 1/{MOST_GROWTH} are stored plain; save them without xz")
    return packed


def decompress(packed: bytes, most_bytes: int) -> bytes:
    """Return the content of one whole xz stream.

    Raises:
        ValueError: it is none, is truncated, has something after it, or holds more than `most_bytes` or than its size
            allows.
    """
    if lzma is None:
        raise ValueError(NO_LZMA)
    room, decoder = min(_room(packed), most_bytes), lzma.LZMADecompressor(lzma.FORMAT_XZ, MOST_MEMORY)
    try:
        content = decoder.decompress(packed, room + 1)
    except lzma.LZMAError as error:
        raise ValueError(f"no xz file that could be read ({error})") from None
    require(len(content) <= room, f"{len(packed)} bytes of xz that hold more than {room}")
    require(decoder.eof and not decoder.unused_data, "an xz file that is truncated, or has something after its end")
    return content


def _room(packed: bytes) -> int:
    return MOST_GROWTH * len(packed) + SPARE_BYTES
