"""Small synthetic copies of the paper's data sets, in the layouts in which they are distributed."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image

from diffae.data.images import ImageSpec
from diffae.data.sources import Source

_ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)
CELEBA_ATTRIBUTES = tuple(_ATTRIBUTES.split())


def picture(number: int, width: int = 16, height: int = 16) -> np.ndarray:
    """An image that encodes its number as gray level / 10; the right half is red."""
    pixels = np.full((height, width, 3), 10 * number, np.uint8)
    pixels[:, width // 2 :, 0] = 255
    return pixels


def encoded(number: int, kind: str = "PNG", width: int = 16, height: int = 16) -> bytes:
    buffer = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(picture(number, width, height)).save(buffer, kind, **options)
    return buffer.getvalue()


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def number_of(pixels: np.ndarray) -> int:
    """The number encoded in an image, scaled or compressed."""
    return round(float(pixels[..., 1].mean()) / 10)


def contents(source: Source, start: int = 0) -> list[tuple[str, int, tuple[str, ...]]]:
    """Name, number and labels of each image of a source."""
    spec = ImageSpec(channels=3, size=8)
    return [(item.name, number_of(item.read(spec)), item.labels) for item in source.items(start)]


def write_lmdb(path: Path, entries: Mapping[str, bytes]) -> Path:
    with lmdb.open(str(path), map_size=2**24) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key.encode(), value)
    return path


def ffhq(folder: Path, count: int, kind: str = "images1024x1024") -> Path:
    """images1024x1024/00000/00000.png"""
    return write(folder, {f"{kind}/00000/{i:05d}.png": encoded(i) for i in range(count)})


def attributes(names: Sequence[str]) -> bytes:
    """list_attr_celeba.txt: image i has attribute i alone, and Young."""
    rows = [
        f"{name} " + " ".join(" 1" if column in (i, 39) else "-1" for column in range(40)) + " \n"
        for i, name in enumerate(names)
    ]
    return f"{len(names)}\n{' '.join(CELEBA_ATTRIBUTES)} \n{''.join(rows)}".encode()


def celeba(folder: Path, count: int, images: str = "img_align_celeba", labels: str = "list_attr_celeba.txt") -> Path:
    """img_align_celeba/000001.jpg of 178x218 pixels, with the attributes."""
    names = [f"{i + 1:06d}.jpg" for i in range(count)]
    files = {f"{images}/{name}": encoded(i, "JPEG", 178, 218) for i, name in enumerate(names)}
    return write(folder, {**files, labels: attributes(names)})


def celebahq_files(count: int) -> dict[str, bytes]:
    """Those of CelebAMask-HQ: CelebA-HQ-img/0.jpg, masks, attributes and poses."""
    files = {f"CelebAMask-HQ/CelebA-HQ-img/{i}.jpg": encoded(i, "JPEG") for i in range(count)}
    masks = {f"CelebAMask-HQ/CelebAMask-HQ-mask-anno/0/{i:05d}_hair.png": encoded(25) for i in range(count)}
    poses = "".join(f"{i}.jpg {-1.5 * i} 2.25 -0.5\n" for i in range(count))
    return {
        **files,
        **masks,
        "CelebAMask-HQ/CelebAMask-HQ-attribute-anno.txt": attributes([f"{i}.jpg" for i in range(count)]),
        "CelebAMask-HQ/CelebAMask-HQ-pose-anno.txt": f"{count}\nYaw Pitch Raw\n{poses}".encode(),
    }


def lsun(path: Path, count: int, kind: str = "WEBP") -> Path:
    """LSUN's own LMDB: keys are hashes, values image files."""
    return write_lmdb(path, {f"{(i * 7919) % 1000:040x}": encoded(i, kind, 24, 16) for i in range(count)})


def published(path: Path, count: int, prefix: str, digits: int, kind: str, width: int = 16, height: int = 16) -> Path:
    """The published repository's LMDB: "256-00000", and "length"."""
    images = {f"{prefix}{i:0{digits}d}": encoded(i, kind, width, height) for i in range(count)}
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_lmdb(path, {**images, "length": str(count).encode()})


def tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    """Write a tar archive."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def sample(number: int, **more: bytes) -> dict[str, bytes]:
    """The files of a WebDataset sample: an image, and others by suffix."""
    return {f"{number:06d}.{suffix}": data for suffix, data in {"png": encoded(number), **more}.items()}
