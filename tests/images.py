"""Photos as small as can be: headers are real, for they are looked at; what follows them is whatever a test needs."""

import base64
import zlib


def png(width: int = 1, height: int = 1, rest: bytes = b"") -> bytes:
    header = b"IHDR" + width.to_bytes(4) + height.to_bytes(4) + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4) + header + zlib.crc32(header).to_bytes(4) + rest


def jpeg(width: int = 1, height: int = 1, rest: bytes = b"") -> bytes:
    jfif = b"\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
    frame = b"\xff\xc0\0\x0b\x08" + height.to_bytes(2) + width.to_bytes(2) + b"\x01\x01\x11\0"
    return b"\xff\xd8" + jfif + frame + rest


def gif(width: int = 1, height: int = 1, rest: bytes = b"", version: bytes = b"89a") -> bytes:
    return b"GIF" + version + width.to_bytes(2, "little") + height.to_bytes(2, "little") + b"\0\0\0" + rest


def data_uri(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
