"""Mutations of files: of the structure where a format is known by its suffix, otherwise of bytes."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

Mutator = Callable[[bytes, Random], bytes]

NUMBERS = (0, 1, 2, 3, 4, 7, 8, 16, 127, 128, 255, 256, 4095, 32767, 32768, 65535, 65536, 10**6, 2**24, 2**31 - 1)
NUMBERS += (2**31, 2**32 - 1, 10**12, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
"""Those at which lengths, counts and sizes overflow or exhaust."""


def mutate(path: Path, random: Random) -> None:
    """Change a file in place, at random but reproducibly."""
    data = path.read_bytes()
    structured = next((MUTATORS[s] for s in MUTATORS if path.name.lower().endswith(s)), None)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        mutator = structured if structured and random.random() < 0.7 else any_bytes
        try:
            data = mutator(data, random)
        except Exception:  # an earlier mutation broke the structure
            data = any_bytes(data, random)
    path.write_bytes(data)


def any_bytes(data: bytes, random: Random) -> bytes:
    """Flip bits, cut, insert, repeat, or overwrite with a number of 1 to 8 bytes."""
    if not data:
        return random.randbytes(random.randrange(1, 64))
    at, length = random.randrange(len(data)), random.choice((1, 2, 8, 64, 1000))
    kind = random.randrange(6)
    if kind == 0:
        changed = bytearray(data)
        for _ in range(random.choice((1, 4, 32))):
            changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
        return bytes(changed)
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + random.choice((bytes(length), b"\xff" * length, random.randbytes(length))) + data[at:]
    if kind == 3:
        return data[:at] + data[at + length :]
    if kind == 4:
        return data[:at] + data[at : at + length] * random.choice((2, 3, 50)) + data[at + length :]
    size = random.choice((1, 2, 4, 8))
    at -= at % size if random.random() < 0.7 else 0
    return data[:at] + number(random, size, random.choice(("little", "big"))) + data[at + size :]


def number(random: Random, size: int, order: Any) -> bytes:
    """One of NUMBERS in so many bytes, cut to fit."""
    return (random.choice(NUMBERS) % 2 ** (8 * size)).to_bytes(size, order)


def png(data: bytes, random: Random) -> bytes:
    """Change fields of the header, or move, repeat, drop or damage chunks; checksums are corrected mostly."""
    chunks, at = [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += length + 12
    chosen, kind = random.randrange(len(chunks)), random.randrange(6)
    name, body = chunks[chosen]
    if kind < 2:
        header = list(struct.unpack(">IIBBBBB", chunks[0][1]))
        field = random.randrange(7)
        header[field] = random.choice(NUMBERS) % 2**31 if field < 2 else random.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", *header))
    elif kind == 2:
        chunks[chosen] = (name, any_bytes(body, random))
    elif kind == 3:  # the samples, compressed anew
        chunks = [(n, zlib.compress(any_bytes(zlib.decompress(b), random)) if n == b"IDAT" else b) for n, b in chunks]
    elif kind == 4:
        extra = random.choice(
            (b"tRNS", b"PLTE", b"gAMA", b"iCCP", b"zTXt", b"iTXt", b"eXIf", b"acTL", b"fcTL", b"tEXt")
        )
        chunks.insert(
            chosen, (extra, random.choice((b"", b"a\0\0" + zlib.compress(bytes(10**7)), random.randbytes(40))))
        )
    else:
        chunks.insert(random.randrange(len(chunks)), chunks.pop(chosen) if random.random() < 0.5 else chunks[chosen])
    wrong = random.random() < 0.1
    parts = (struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b) ^ wrong) for n, b in chunks)
    return data[:8] + b"".join(parts)


def jpeg(data: bytes, random: Random) -> bytes:
    """Damage the body or the length of a segment, or insert one."""
    starts, at = [], 2
    while data[at] == 0xFF and data[at + 1] != 0xDA:
        starts.append(at)
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    starts.append(at)
    at = random.choice(starts)
    length = int.from_bytes(data[at + 2 : at + 4])
    place = at + 2 + random.randrange(length)
    if random.random() < 0.3:
        segment = random.randbytes(random.choice((2, 30, 2000)))
        head = bytes((0xFF, random.choice((0xC0, 0xC4, 0xDB, 0xDD, 0xE1, 0xE2, 0xEE))))
        return data[:at] + head + (len(segment) + 2).to_bytes(2) + segment + data[at:]
    size = random.choice((1, 2))
    return data[:place] + number(random, size, "big") + data[place + size :]


def tiff(data: bytes, random: Random) -> bytes:
    """Change the tag, type, count or value of an entry, or the place of the next directory; or add an entry."""
    order: Any = "little" if data[:2] == b"II" else "big"
    start = int.from_bytes(data[4:8], order)
    starts = []
    while start and start not in starts:
        starts.append(start)
        count = int.from_bytes(data[start : start + 2], order)
        start = int.from_bytes(data[start + 2 + 12 * count :][:4], order)
    start = random.choice(starts)
    count = int.from_bytes(data[start : start + 2], order)
    if random.random() < 0.1:
        at, value = start + 2 + 12 * count, random.choice((start, 8, len(data), 2**32 - 1)).to_bytes(4, order)
    else:
        entry = start + 2 + 12 * random.randrange(count)
        offset, size = random.choice(((0, 2), (2, 2), (4, 4), (8, 4), (8, 4), (8, 2)))
        at, value = entry + offset, number(random, size, order)
        if offset == 2:
            value = random.randrange(20).to_bytes(2, order)
        elif offset == 0:
            value = random.choice(
                (254, 256, 257, 258, 259, 262, 273, 277, 279, 284, 317, 322, 323, 330, 338, 339)
            ).to_bytes(2, order)
    return data[:at] + value + data[at + len(value) :]


def text_numbers(data: bytes, random: Random) -> bytes:
    """Replace a decimal number in a text, such as OME-XML or a list of frames, by another."""
    places = [place for place in range(len(data)) if data[place : place + 1].isdigit()]
    start = end = random.choice(places)
    while data[end : end + 1].isdigit():
        end += 1
    return data[:start] + str(random.choice((*NUMBERS, -1, 1e308))).encode() + data[end:]


def npy(data: bytes, random: Random) -> bytes:
    """Write another header before the samples."""
    end = 10 + int.from_bytes(data[8:10], "little")
    facts: dict[str, Any] = {"descr": "<u2", "fortran_order": False, "shape": (4, 8, 8)}
    key = random.choice(("descr", "fortran_order", "shape", "shape", "other"))
    facts[key] = random.choice(
        {
            "descr": ("|O", "<f8", "|u1", ">i4", "|S1000000000", "|V0", [("a", "<u2")], "<U99", "nonsense", 1, None),
            "fortran_order": (True, 1, None, "no"),
            "shape": ((), (10**12,), (10**6, 10**6, 3), (-1, 8, 8), (0, 8, 8), (2**62, 4, 4), (1.5,), "x", (1,) * 70),
            "other": (1, {}),
        }[key]
    )  # fmt: skip
    text = random.choice(
        (repr(facts),) * 6 + ("(" * 900, "{" * 9000, "[" * 200 + "]" * 200, "-" * 5000 + "1", "\0", "9" * 5000)
    )
    return data[:6] + b"\1\0" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n" + data[end:]


def archive(data: bytes, random: Random) -> bytes:
    """Mutate a member of a zip archive, whose checksums are corrected."""
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    name = random.choice(list(members))
    structured = next((MUTATORS[suffix] for suffix in MUTATORS if name.endswith(suffix)), any_bytes)
    members[name] = structured(members[name], random)
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as new:
        for name, member in members.items():
            new.writestr(name, member)
    return output.getvalue()


def json_text(data: bytes, random: Random) -> bytes:
    """Replace, remove or add a value anywhere in a JSON document."""
    document = [json.loads(data)]
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            collect(node[key])

    collect(document)
    node, key = random.choice(places)
    kind = random.randrange(6)
    if kind == 0 and node is not document:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[random.choice(("", "unknown", "../x", "\0"))] = node[key]
    else:
        odd: tuple[Any, ...] = (
            None,
            True,
            "",
            "x",
            [],
            {},
            [[]],
            -1,
            0,
            1.5,
            32.0,
            1e308,
            float("nan"),
            "\0\x1b[31m",
            "é" * 300,
        )
        node[key] = random.choice((*odd, *NUMBERS, 10**400, [[1, 2], [3]], {"a": {"b": 1}}))
    text = json.dumps(document[0])
    if random.random() < 0.03:
        text = "[" * 100_000
    return text.encode()


def compressed(mutator: Mutator) -> Mutator:
    """Mutate what a gzip file holds."""
    return lambda data, random: gzip.compress(mutator(gzip.decompress(data), random))


def header_of(size: int, mutator: Mutator = any_bytes) -> Mutator:
    """Mutate the first bytes only, without changing their number."""
    return lambda data, random: mutator(data[:size], random)[:size].ljust(size, b"\0") + data[size:]


def small_numbers(data: bytes, random: Random) -> bytes:
    """Overwrite an aligned number of 2, 4 or 8 bytes: fields of headers, pages and records."""
    size = random.choice((1, 2, 2, 4, 8))
    at = random.randrange(len(data)) // size * size
    if random.random() < 0.8:  # most of a file is samples or zeros
        filled = [place for place in range(0, len(data), size) if any(data[place : place + size])]
        at = random.choice(filled or [at])
    value = number(random, size, "little") if random.random() < 0.6 else random.randrange(64).to_bytes(size, "little")
    return data[:at] + value + data[at + size :]


def safetensors(data: bytes, random: Random) -> bytes:
    """Change the header as JSON, texts of JSON in its metadata, or its length; or the tensors."""
    length = int.from_bytes(data[:8], "little")
    header, kind = json.loads(data[8 : 8 + length]), random.randrange(5)
    texts = [key for key, text in header.get("__metadata__", {}).items() if text[:1] in "[{"]
    if kind == 0:
        return number(random, 8, "little") + data[8:]
    if kind == 1 and texts:
        key = random.choice(texts)
        header["__metadata__"][key] = json_text(header["__metadata__"][key].encode(), random).decode()
    elif kind < 4:
        entry = header[random.choice([name for name in header if name != "__metadata__"])]
        field = random.choice(("dtype", "shape", "data_offsets"))
        if field == "dtype":
            entry[field] = random.choice(
                ("F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "C64", "F4", "U64", "x")
            )
        else:
            entry[field] = random.choice(([], [0], [random.choice(NUMBERS)], [*entry[field], 1], entry[field][::-1]))
    text = json.dumps(header).encode() if kind < 4 else json_text(json.dumps(header).encode(), random)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def lines(mutator: Mutator) -> Mutator:
    """Mutate one line of a text, repeat it, or drop it."""

    def mutated(data: bytes, random: Random) -> bytes:
        found = data.split(b"\n")
        at = random.randrange(len(found))
        part = mutator(found[at], random) if random.random() < 0.8 else found[at] + b"\n" + found[at]
        return b"\n".join([*found[:at], *([part] if random.random() < 0.9 else []), *found[at + 1 :]])

    return mutated


CELLS = (
    "",
    "nan",
    "inf",
    "1e308",
    "-1e308",
    "1e-320",
    "9" * 4301,
    "x" * 140_000,
    '"',
    "\0",
    "\x1b[2J",
    "[/x]",
    "é",
    "\ufeff",
)
CELLS += ("=cmd", "-0", "1_0", "٣", "../x", "True", "\r", "a" * 300)


def cells(data: bytes, random: Random) -> bytes:
    """Replace, add or drop cells of a table, or repeat its rows or columns many times."""
    separator = next((mark for mark in ("\t", ",", " ") if mark.encode() in data), ",")
    rows = [line.split(separator) for line in data.decode("utf-8", "surrogateescape").split("\n")]
    kind, row = random.randrange(8), random.choice(rows)
    at = random.randrange(len(row))
    if kind < 4:
        row[at] = random.choice(CELLS)
    elif kind == 4:
        row.insert(at, random.choice(CELLS))
    elif kind == 5:
        del row[at]
    elif kind == 6:
        rows = [
            [*cells, *(f"{cells[at % len(cells)]}{i}" for i in range(random.choice((10, 20_000))))] for cells in rows
        ]
    else:
        rows += rows[-3:] * random.choice((1, 100, 10_000))
    return "\n".join(map(separator.join, rows)).encode("utf-8", "surrogateescape")


def tar(data: bytes, random: Random) -> bytes:
    """Change a field of a header, whose checksum is corrected, or a record of a pax header; or insert a header."""
    heads = [at for at in range(0, len(data) - 512, 512) if data[at + 257 : at + 262] == b"ustar"]
    at = random.choice(heads)
    head, kind = bytearray(data[at : at + 512]), random.randrange(8)
    if kind == 0 and b"=" in data[at + 512 : at + 1024]:
        key = random.choice(("size", "path", "GNU.sparse.major", "GNU.sparse.realsize", "GNU.sparse.map", "hdrcharset"))
        value = random.choice(
            ("-1", "-512", "0", str(random.choice(NUMBERS)), "1,2,3", "x", "\ud800", "../../x", "9" * 4400)
        )
        record = f" {key}={value}\n".encode(errors="surrogatepass")
        length = len(record) + len(str(len(record) + 2))
        body = (str(length).encode() + record).ljust(-(-length // 512) * 512, b"\0")
        head[124:136] = f"{length:011o}\0".encode()
        rest = data[at + 512 + -(-int(data[at + 124 : at + 135], 8) // 512) * 512 :]
        data, at = data[: at + 512] + body + rest, at
    elif kind < 3:
        head[124:136] = random.choice(
            (b"77777777777\0", b"\xff" * 12, b"\x80" + bytes(7) + random.randbytes(4), b"-1".ljust(12), b"0".ljust(12))
        )
    elif kind < 5:
        head[156] = random.choice(b"0123456789xgLKSAVX\0")
    elif kind == 5:
        place = random.randrange(500)
        head[place] = random.randrange(256)
    else:
        name = random.choice(
            (b"../../a.png", b"/etc/a.png", b"a\n.png", b"\x1b[2J.png", b"\xff\xfe.png", b"a.json", b"a.cls", b"")
        )
        head[:100] = name.ljust(100, b"\0")
    head[148:156] = b" " * 8
    head[148:156] = f"{sum(head):06o}\0 ".encode()
    return data[:at] + bytes(head) + data[at + (0 if kind == 7 else 512) :]


def archive_bytes(data: bytes, random: Random) -> bytes:
    """Mutate a member of a zip, or the fields of its directory: sizes, methods, versions, flags, offsets."""
    if random.random() < 0.5:
        return archive(data, random)
    places = [at for at in range(len(data)) if data[at : at + 4] in (b"PK\1\2", b"PK\3\4", b"PK\5\6")]
    at = random.choice(places) + random.choice((4, 6, 8, 10, 14, 16, 18, 20, 22, 24, 26, 28, 30, 42, 46))
    size = random.choice((1, 2, 4))
    return data[:at] + number(random, size, "little") + data[at + size :]


def protobuf(data: bytes, random: Random) -> bytes:
    """Change one short byte: a field number, a length, a type, a small value."""
    at = random.choice([place for place, byte in enumerate(data) if byte < 128])
    return data[:at] + bytes([random.choice((0, 1, 2, 3, 7, 8, 9, 16, 127, data[at] ^ 1))]) + data[at + 1 :]


MUTATORS: dict[str, Mutator] = {
    ".safetensors": safetensors,
    ".jsonl": lines(json_text),
    ".csv": cells,
    ".tsv": cells,
    ".txt": cells,
    ".tar.gz": compressed(tar),
    ".tar": tar,
    ".zip": archive_bytes,
    ".ckpt": archive_bytes,
    ".pt": archive_bytes,
    ".onnx": protobuf,
    ".png": png,
    ".jpg": jpeg,
    ".ome.tif": text_numbers,
    ".tif": tiff,
    ".npy": npy,
    ".npz": archive,
    ".json": json_text,
    ".zarray": json_text,
    ".zattrs": json_text,
    ".zgroup": json_text,
    ".nii.gz": compressed(header_of(352, small_numbers)),
    ".nii": header_of(352, small_numbers),
    ".dcm": small_numbers,
    ".h5": small_numbers,
    ".mdb": small_numbers,
}
"""Structured mutations by the end of a file's name; the first that fits."""
