"""Images as keys of a Loggos cluster, from the command line. PATH is a picture, or a folder of
pictures, each of which is then set or looked up.

Exit codes are those of `loggos`: 0 it worked, 1 there is no such image, 2 bad command line or
file, 3 it certainly did not happen, 4 it may or may not have happened.
"""

import argparse
import json
import os
import sys
import unicodedata
from pathlib import Path
from typing import NoReturn

from loggos.client.client import IMAGES_MAX, TIMEOUT_S, Client
from loggos.client.errors import Definite, Error, Refused
from loggos.client.images import HASH_SIZE, ImageError, average_hash, pictures
from loggos.client.replies import Image, Images

REFUSED, USAGE, DEFINITE, UNKNOWN, INTERRUPTED = 1, 2, 3, 4, 130


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
    iget.add_argument("--limit", type=int, default=IMAGES_MAX, metavar="N", help="of them [10000]")
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
    except KeyboardInterrupt:
        return INTERRUPTED
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
    told = {"path": printable(os.fsencode(path)), "hash": hash.hex()}
    if options.command == "iset":
        # As it was typed, whatever bytes those are.
        client.set_image(hash, os.fsencode(path.name if options.meta is None else options.meta))
        say(options, client, {"ok": True, **told}, [hash.hex()])
        return 0
    within = options.within
    found = client.nearest(hash, within or 0, 1 if within is None else options.limit)
    if within is None and not found.images:
        say(options, client, {"ok": False, **told, "failure": "not_found"}, [])
        complain(f"{path}: there is no image {hash.hex()}")
        return REFUSED
    say(options, client, {"ok": True, **told, **in_json(found, within)}, in_lines(found, within))
    if found.more and within is not None and not options.json:
        complain(f"there are more within {within} bits")
    return 0


def in_json(found: Images, within: int | None) -> dict:
    """The fields of what was found."""
    if within is None:
        return meta_in_json(found.images[0])
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


def in_lines(found: Images, within: int | None) -> list[str]:
    """The same for people: what is known; with `within` also how near, and the hash."""
    if within is None:
        return [printable(found.images[0].meta, "\n\t")]
    return [f"{it.distance}\t{it.hash.hex()}\t{printable(it.meta)}" for it in found.images]


def printable(meta: bytes, also: str = "") -> str:
    """Text that can be printed as it is; anything else escaped as a whole, as `loggos` does it."""
    text = meta.decode(errors="surrogateescape")
    if all(is_plain(c) or c in also for c in text):
        return text
    return "".join(c if is_plain(c) and c != "\\" else escaped(c) for c in text)


def is_plain(c: str) -> bool:
    """No control character, and none that stands for a byte that is no text."""
    return unicodedata.category(c) not in ("Cc", "Cs")


def escaped(c: str) -> str:
    """In the form that the shell of `loggos` reads back."""
    short = {"\\": "\\\\", "\n": "\\n", "\t": "\\t"}
    data = c.encode(errors="surrogateescape")
    return short.get(c) or "".join(f"\\x{byte:02x}" for byte in data)


def say(options: argparse.Namespace, client: Client, told: dict, lines: list[str]) -> None:
    """Prints an answer. Where there are several pictures, each line says of which it is."""
    if options.json:
        decided = client.decided
        told |= {"slot": decided.slot, "ballot": decided.ballot, "node": decided.node}
        lines = [json.dumps(told, ensure_ascii=False, sort_keys=True, separators=(",", ":"))]
    elif options.path.is_dir():
        lines = [f"{told['path']}\t{line}" for line in lines]
    for each in lines:
        print(each, flush=True)


def complain(message: str) -> None:
    """One line on standard error."""
    print(f"loggos: {' '.join(message.split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
