"""GGUF bytes made by hand with struct, without any code of the package."""

import struct

ORDERS = {"little": "<", "big": ">"}


class Build:
    """Makes the pieces of a file of one version and byte order."""

    def __init__(self, version: int = 3, byte_order: str = "little"):
        self.version, self.mark = version, ORDERS[byte_order]

    def pack(self, code: str, *values) -> bytes:
        return struct.pack(self.mark + code, *values)

    def count(self, n: int) -> bytes:
        return self.pack("I" if self.version == 1 else "Q", n)

    def string(self, text: str | bytes) -> bytes:
        raw = text if isinstance(text, bytes) else text.encode()
        return self.count(len(raw)) + raw

    def pair(self, key: str | bytes, type_id: int, value: bytes) -> bytes:
        return self.string(key) + self.pack("I", type_id) + value

    def array(self, type_id: int, items: list[bytes]) -> bytes:
        return self.pack("I", type_id) + self.count(len(items)) + b"".join(items)

    def tensor(self, name: str, dims: list[int], type_id: int, offset: int) -> bytes:
        packed_dims = b"".join(self.count(dim) for dim in dims)
        head = self.string(name) + self.pack("I", len(dims)) + packed_dims
        return head + self.pack("IQ", type_id, offset)

    def file(self, pairs=(), tensors=(), data: bytes = b"", alignment: int = 32) -> bytes:
        head = b"GGUF" + self.pack("I", self.version)
        head += self.count(len(tensors)) + self.count(len(pairs)) + b"".join(pairs)
        head += b"".join(tensors)
        return head + bytes(-len(head) % alignment) + data


def all_values(build: Build) -> list[bytes]:
    """One pair of each of the 13 types, arrays of several, nested and empty arrays."""
    scalars = [
        ("u8", 0, "B", 200),
        ("i8", 1, "b", -100),
        ("u16", 2, "H", 60000),
        ("i16", 3, "h", -30000),
        ("u32", 4, "I", 4_000_000_000),
        ("i32", 5, "i", -2_000_000_000),
        ("f32", 6, "f", 1.5),
        ("yes", 7, "?", True),
        ("u64", 10, "Q", 2**64 - 1),
        ("i64", 11, "q", -(2**63)),
        ("f64", 12, "d", 0.1),
    ]
    pairs = [build.pair(key, id_, build.pack(code, value)) for key, id_, code, value in scalars]
    ints = [build.pack("i", n) for n in (1, -2, 3)]
    strings = [build.string(text) for text in ("a", "", "é中")]
    inner = build.array(5, ints), build.array(8, strings), build.array(9, [])
    return [
        *pairs,
        build.pair("text", 8, build.string("naïve")),
        build.pair("ints", 9, build.array(5, ints)),
        build.pair("flags", 9, build.array(7, [b"\1", b"\0"])),
        build.pair("strings", 9, build.array(8, strings)),
        build.pair("no.floats", 9, build.array(6, [])),
        build.pair("no.strings", 9, build.array(8, [])),
        build.pair("nested", 9, build.array(9, [inner[0], inner[0]])),
        build.pair("mixed", 9, build.array(9, list(inner))),
    ]
