"""Images as keys: the key is the image's average hash, the value is what is known of it.

The hash (`imagehash.average_hash`) says for each cell of a small grid whether it is lighter than
the mean, so a copy in other colours, sizes or formats mostly has the same one, and else one that
differs in a bit or two: that is what `within` is for. Its bytes are those of `str(hash)` in
hexadecimal, as `loggos iget` takes it. The image itself never leaves this machine.

Needs Pillow and imagehash; nothing else of the library does.
"""

from os import PathLike, fspath
from pathlib import Path
from types import ModuleType

from loggos.client.client import IMAGES_MAX, Client
from loggos.client.commands import Data

HASH_SIZE, HASH_SIZE_MAX = 8, 32


class ImageError(Exception):
    """A file is no image that can be read: `PATH: why`."""


def _pillow() -> ModuleType:
    """Imported when it is needed, and an `ImageError` where it is missing; imagehash with it."""
    try:
        import imagehash  # noqa: F401, PLC0415
        from PIL import Image  # noqa: PLC0415
    except ImportError as error:
        why = f"{error.name or 'imagehash'} is missing: pip install imagehash Pillow"
        raise ImageError(why) from error
    return Image


def average_hash(path: str | PathLike, hash_size: int = HASH_SIZE) -> bytes:
    """The key of an image: a bit for each of `hash_size` times `hash_size` cells."""
    if not 4 <= hash_size <= HASH_SIZE_MAX or hash_size % 4 != 0:
        # So that bits fill bytes, and hashes of two sizes have two lengths.
        raise ValueError(f"the size of a hash is 4, 8, 12, ... or {HASH_SIZE_MAX}, not {hash_size}")
    pillow = _pillow()
    import imagehash  # noqa: PLC0415

    try:
        with pillow.open(path) as image:
            return bytes.fromhex(str(imagehash.average_hash(image, hash_size)))
    # Pillow's decoders fail in many ways on what is no image, or half of one.
    except Exception as error:
        raise ImageError(f"{fspath(path)}: {_why(error)}") from error


def _why(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "this is no image that Pillow knows"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"the image cannot be read: {' '.join(str(error).split()) or type(error).__name__}"


def pictures(folder: str | PathLike) -> list[Path]:
    """The files of a folder whose names are those of images, in order; no folders within it."""
    pillow = _pillow()
    named = pillow.registered_extensions()
    readable = {ending for ending, format in named.items() if format in pillow.OPEN}
    return sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in readable)


def iset(client: Client, path: str | PathLike, meta: Data, hash_size: int = HASH_SIZE) -> bytes:
    """Sets what is known of an image, whatever was known before; returns its hash."""
    hash = average_hash(path, hash_size)
    client.set_image(hash, meta)
    return hash


def iget(
    client: Client,
    path: str | PathLike,
    within: int | None = None,
    hash_size: int = HASH_SIZE,
    limit: int = IMAGES_MAX,
) -> bytes | list[tuple[int, bytes, bytes]] | None:
    """What is known of an image, or None. With `within`: of all images whose hashes differ in at
    most so many bits, as (distance, hash, metadata), nearest first, the nearest `limit` of them.
    Linearizable either way."""
    hash = average_hash(path, hash_size)
    if within is None:
        found = client.nearest(hash, within=0, limit=1).images
        return found[0].meta if found else None
    found = client.nearest(hash, within, limit).images
    return [(image.distance, image.hash, image.meta) for image in found]
