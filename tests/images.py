"""Photos as small as can be: whole by their structure, without pixels to see. `rest` stands behind the end."""

import base64
import zlib


def chunk(name: bytes, content: bytes) -> bytes:
    """Of a PNG."""
    return len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)


def png(width: int = 1, height: int = 1, rest: bytes = b"", chunks: bytes = b"") -> bytes:
    header = chunk(b"IHDR", width.to_bytes(4) + height.to_bytes(4) + b"\x08\x02\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + header + chunks + chunk(b"IEND", b"") + rest


def jpeg(width: int = 1, height: int = 1, rest: bytes = b"", scan: bytes = b"\x7f") -> bytes:
    jfif = b"\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
    frame = b"\xff\xc0\0\x0b\x08" + height.to_bytes(2) + width.to_bytes(2) + b"\x01\x01\x11\0"
    return b"\xff\xd8" + jfif + frame + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + scan + b"\xff\xd9" + rest


def gif(width: int = 1, height: int = 1, rest: bytes = b"", version: bytes = b"89a") -> bytes:
    screen = width.to_bytes(2, "little") + height.to_bytes(2, "little") + b"\0\0\0"
    image = b"\x2c" + bytes(4) + screen[:4] + b"\0\2\2\x44\1\0"
    return b"GIF" + version + screen + image + b"\x3b" + rest


def data_uri(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
