"""Images as keys of a Loggos cluster, from the command line. PATH is a picture, or a folder of
pictures, each of which is then set or looked up.

Exit codes are those of `loggos`: 0 it worked, 1 there is no such image, 2 bad command line or
file, 3 it certainly did not happen, 4 it may or may not have happened.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from loggos.client.client import IMAGES_MAX, TIMEOUT_S, Client
from loggos.client.errors import Definite, Error, Refused
from loggos.client.images import HASH_SIZE, ImageError, average_hash, pictures
from loggos.client.replies import Image, Images

REFUSED, USAGE, DEFINITE, UNKNOWN = 1, 2, 3, 4


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like `loggos`."""

    def error(self, message: str) -> NoReturn:
        """Ends the program."""
        complain(f"{message}; try --help")
        sys.exit(USAGE)


def arguments(line: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(
        prog="python -m loggos.client",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = Parser(add_help=False)
    common.add_argument("--nodes", metavar="ADDR,...", help="[LOGGOS_NODES, else 127.0.0.1:7401]")
    common.add_argument("--timeout", type=float, default=TIMEOUT_S, metavar="SECONDS")
    common.add_argument("--hash-size", type=int, default=HASH_SIZE, metavar="N", help="[8]")
    common.add_argument("--json", action="store_true", help="one object a picture")
    which = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    iset = which.add_parser("iset", parents=[common], help="set what is known of a picture")
    iset.add_argument("path", type=Path, metavar="PATH")
    iset.add_argument("meta", nargs="?", metavar="META", help="[the name of the file]")
    iget = which.add_parser("iget", parents=[common], help="print what is known of a picture")
    iget.add_argument("path", type=Path, metavar="PATH")
    iget.add_argument("--within", type=int, metavar="BITS", help="and of those like it")
    iget.add_argument("--limit", type=int, default=IMAGES_MAX, metavar="N", help="of them [100]")
    return parser.parse_args(line)


def main(line: list[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    options = arguments(line)
    code = 0
    try:
        with Client(options.nodes, options.timeout) as client:
            if not options.path.is_dir():
                return run(options, client, options.path)
            for path in pictures(options.path):
                try:
                    code = max(code, run(options, client, path))
                except ImageError as error:
                    # The others may be in order.
                    complain(str(error))
                    code = USAGE
    except BrokenPipeError:
        # The reader has had enough. What is still to be written at the end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ImageError, ValueError, OSError) as error:
        complain(str(error))
        return USAGE
    except Error as error:
        complain(str(error))
        return (
            REFUSED
            if isinstance(error, Refused)
            else (DEFINITE if isinstance(error, Definite) else UNKNOWN)
        )
    return code


def run(options: argparse.Namespace, client: Client, path: Path) -> int:
    """One picture."""
    hash = average_hash(path, options.hash_size)
    told = {"path": str(path), "hash": hash.hex()}
    if options.command == "iset":
        client.set_image(hash, path.name if options.meta is None else options.meta)
        say(options, client, {"ok": True, **told}, [hash.hex()])
        return 0
    within = options.within
    found = client.nearest(hash, within or 0, 1 if within is None else options.limit)
    ok = bool(found.images)
    told = {"ok": ok, **told, **({} if ok else {"failure": "not_found"})}
    say(options, client, {**told, **in_json(found, within)}, list(in_lines(found, within)))
    if ok:
        if found.more and within is not None:
            complain("there is more: --limit")
        return 0
    like = "" if within is None else f" within {within} bits"
    complain(f"{path}: there is no image {hash.hex()}{like}")
    return REFUSED


def in_json(found: Images, within: int | None) -> dict:
    """The fields of what was found."""
    if within is None:
        return {} if not found.images else meta_in_json(found.images[0])
    images = [
        {"distance": image.distance, "hash": image.hash.hex(), **meta_in_json(image)}
        for image in found.images
    ]
    return {"images": images, "more": found.more}


def meta_in_json(image: Image) -> dict:
    """Text, or `meta_hex` where it is none."""
    try:
        return {"meta": image.meta.decode()}
    except UnicodeDecodeError:
        return {"meta_hex": image.meta.hex()}


def in_lines(found: Images, within: int | None) -> Iterator[str]:
    """The same for people: what is known; with `within` also how near, and the hash."""
    for image in found.images:
        meta = printable(image.meta)
        yield meta if within is None else f"{image.distance}\t{image.hash.hex()}\t{meta}"


def printable(meta: bytes) -> str:
    """Text that can be printed in one line as it is; anything else escaped as a whole."""
    try:
        text = meta.decode()
    except UnicodeDecodeError:
        return "".join(chr(b) if chr(b).isprintable() and b < 128 else f"\\x{b:02x}" for b in meta)
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def say(options: argparse.Namespace, client: Client, told: dict, lines: list[str]) -> None:
    """Prints an answer."""
    if options.json:
        decided = client.decided
        where = {"slot": decided.slot, "ballot": decided.ballot, "node": decided.node}
        lines = [json.dumps({**told, **where}, ensure_ascii=False, sort_keys=True)]
    for each in lines:
        print(each, flush=True)


def complain(message: str) -> None:
    """One line on standard error."""
    print(f"loggos: {' '.join(message.split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
