"""Images as keys: what hashes copies of pictures have, and real nodes that are asked for them."""

import json
import shutil

import imagehash
import nodes
import numpy as np
import pytest
from nodes import PATIENT
from PIL import Image, ImageDraw, ImageFilter

from loggos.client import Client
from loggos.client.__main__ import main, printable
from loggos.client.images import ImageError, average_hash, iget, iset, pictures

# What the documentation promises of copies.
ALIKE = 5


def photograph(seed: int) -> Image.Image:
    """Light and dark areas of all sizes in soft colours, as in a photograph."""
    random = np.random.default_rng(seed)
    layers = np.zeros((240, 320, 3))
    for size in (3, 6, 12, 40):
        noise = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
        layers += np.asarray(Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC))
    picture = Image.fromarray((layers / 4).astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(2))


def gradient() -> Image.Image:
    across, down = np.meshgrid(np.linspace(0, 255, 300), np.linspace(0, 1, 200))
    return Image.fromarray(np.stack([across, across * down, 255 - across], -1).astype(np.uint8))


def shapes() -> Image.Image:
    picture = Image.new("RGB", (400, 300), "navy")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((30, 40, 180, 190), "yellow")
    draw.polygon([(220, 260), (380, 260), (300, 90)], "darkgreen")
    draw.rectangle((10, 210, 150, 290), "white")
    return picture


PICTURES = {
    "gradient": gradient(), "shapes": shapes(),
    **{f"photograph {seed}": photograph(seed) for seed in range(8)},
}  # fmt: skip
COPIES = {
    "grey": lambda it: it.convert("L"),
    "smaller": lambda it: it.resize((it.width // 3, it.height // 3)),
    "larger": lambda it: it.resize((it.width * 2, it.height * 2)),
    "other shape": lambda it: it.resize((200, 200)),
    "palette": lambda it: it.quantize(64),
}


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """Each picture, with its copies beside it."""
    tmp_path = tmp_path_factory.mktemp("gallery")
    for name, picture in PICTURES.items():
        picture.save(tmp_path / f"{name}.png")
        picture.save(tmp_path / f"{name}, compressed.jpg", quality=60)
        for copy, make in COPIES.items():
            make(picture).save(tmp_path / f"{name}, {copy}.png")
    return tmp_path


@pytest.fixture
def folder(gallery, tmp_path):
    """The same, to be added to."""
    return shutil.copytree(gallery, tmp_path / "gallery")


def distance(one: bytes, two: bytes) -> int:
    return (int.from_bytes(one) ^ int.from_bytes(two)).bit_count()


def test_the_key_is_the_hash_of_imagehash(gallery):
    for size in (4, 8, 12, 16, 32):
        for path in sorted(gallery.glob("photograph ?.png")):
            key = average_hash(path, size)
            its = imagehash.average_hash(Image.open(path), size)
            assert (key.hex(), 8 * len(key)) == (str(its), size * size)
    for size in (0, 2, 6, 7, 36):
        with pytest.raises(ValueError, match="size of a hash"):
            average_hash(path, size)


def test_copies_are_near_and_other_pictures_far(gallery):
    """The figures of the documentation: most copies have the same hash, all are near; photographs
    that have nothing to do with each other are not."""
    apart = []
    for name in PICTURES:
        original = average_hash(gallery / f"{name}.png")
        for copy in gallery.glob(f"{name}, *"):
            apart.append(distance(original, average_hash(copy)))
    assert max(apart) <= ALIKE
    assert apart.count(0) >= 0.6 * len(apart), apart
    hashes = [average_hash(gallery / f"{name}.png") for name in PICTURES]
    for at, one in enumerate(hashes):
        for two in hashes[:at]:
            assert distance(one, two) > ALIKE


def test_distances_are_those_of_imagehash(gallery):
    one, two = gallery / "shapes.png", gallery / "gradient.png"
    theirs = imagehash.average_hash(Image.open(one)) - imagehash.average_hash(Image.open(two))
    assert distance(average_hash(one), average_hash(two)) == theirs


def test_what_is_no_image_is_one_clear_error(tmp_path):
    (tmp_path / "text.png").write_text("this is text")
    (tmp_path / "empty.jpg").touch()
    gradient().save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-400])
    for name, why in {
        "missing.png": "No such file or directory",
        ".": "Is a directory",
        "text.png": "no image that Pillow knows",
        "empty.jpg": "no image that Pillow knows",
        "half.png": "cannot be read",
    }.items():
        path = tmp_path / name
        with pytest.raises(ImageError, match=why) as failed:
            average_hash(path)
        assert str(failed.value).startswith(f"{path}: ")
        assert "\n" not in str(failed.value)


def test_missing_libraries_are_told(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "imagehash", None)
    with pytest.raises(ImageError, match="imagehash is missing: pip install"):
        average_hash(tmp_path / "any.png")
    with pytest.raises(ImageError, match="imagehash is missing"):
        pictures(tmp_path)


def test_a_folder_has_its_pictures_in_order(folder):
    (folder / "notes.txt").touch()
    (folder / "paper.pdf").touch()
    (folder / "more").mkdir()
    found = pictures(folder)
    assert len(found) == len(PICTURES) * (2 + len(COPIES)) and found == sorted(found)


def test_what_cannot_be_printed_is_escaped():
    """As `loggos iget` does it (`src/cli/output.rs`)."""
    assert printable("lake, Größe C:\\x".encode()) == "lake, Größe C:\\x"
    assert printable(b"a\nb\\") == "a\\nb\\\\"
    assert printable(b"two\nlines", "\n\t") == "two\nlines"
    assert printable(b"\xff\xc3\xa4") == "\\xffä"
    assert printable("\x85".encode()) == "\\xc2\\x85"


def test_the_command_line_says_what_is_wrong(folder, capsys, monkeypatch):
    monkeypatch.setenv("LOGGOS_NODES", "127.0.0.1:1")
    (folder / "text.png").write_text("this is text")
    picture = str(folder / "shapes.png")
    for line, code, message in (
        (["iget", str(folder / "missing.png")], 2, "No such file or directory"),
        (["iset", str(folder / "text.png"), "x"], 2, "no image that Pillow knows"),
        (["iget", picture, "--nodes", "nowhere"], 2, "an address is HOST:PORT"),
        (["iget", picture, "--hash-size", "9"], 2, "size of a hash"),
        (["iget", picture, "--within", "-1"], 2, "images differ in"),
        (["iget", picture, "--timeout", "0.2"], 3, "it certainly did not happen"),
        (["iset", picture, "x", "--timeout", "0.2"], 3, "it certainly did not happen"),
    ):
        assert main(line) == code, line
        out, error = capsys.readouterr()
        assert message in error and error.startswith("loggos: ") and error.count("\n") == 1
        assert not out
    for line in (["iget"], ["imove", "x"], ["iget", picture, "--limit", "x"], []):
        with pytest.raises(SystemExit) as ended:
            main(line)
        assert ended.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


# Real nodes.


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    with nodes.cluster(tmp_path_factory.mktemp("images"), 1) as system:
        yield system


def test_images_are_found_by_their_copies(one, gallery):
    with Client(one.addresses(), PATIENT) as client:
        for name in PICTURES:
            path = gallery / f"{name}.png"
            assert iget(client, path) is None
            assert iset(client, path, name) == average_hash(path)
            assert iget(client, path) == name.encode()
        for name in PICTURES:
            for copy in gallery.glob(f"{name}, *"):
                (found, *others) = iget(client, copy, within=ALIKE)
                apart = distance(average_hash(gallery / f"{name}.png"), average_hash(copy))
                assert (found[0], found[2]) == (apart, name.encode())
                assert all(found[0] <= other[0] for other in others)
        # Nearest first, and all of them if so many bits may differ.
        found = iget(client, gallery / "shapes.png", within=64)
        assert [it[0] for it in found] == sorted(it[0] for it in found)
        assert found[0] == (0, average_hash(gallery / "shapes.png"), b"shapes")
        assert len(found) == len(PICTURES)
        assert len(iget(client, gallery / "shapes.png", within=64, limit=2)) == 2
        # Hashes of another size are other images.
        assert iget(client, gallery / "shapes.png", hash_size=16) is None
        client.delete_image(average_hash(gallery / "shapes.png"))
        assert iget(client, gallery / "shapes.png") is None


def test_the_command_line_sets_and_finds(one, folder, capsys):
    def run(*line: object) -> tuple[int, str, str]:
        code = main([*map(str, line), "--nodes", one.addresses(), "--hash-size", "16"])
        return code, *capsys.readouterr()

    picture = folder / "photograph 1.png"
    hash = average_hash(picture, 16).hex()
    code, out, error = run("iget", picture)
    assert (code, out, error) == (1, "", f"loggos: {picture}: there is no image {hash}\n")
    assert run("iget", picture, "--within", 0) == (0, "", "")
    assert run("iset", picture, "a lake\n")[:2] == (0, f"{hash}\n")
    assert run("iget", picture)[:2] == (0, "a lake\n\n")
    assert run("iget", picture, "--within", 3)[:2] == (0, f"0\t{hash}\ta lake\\n\n")
    told = json.loads(run("iget", picture, "--within", 3, "--json")[1])
    assert told["images"] == [{"distance": 0, "hash": hash, "meta": "a lake\n"}]
    assert told["ok"] and not told["more"] and told["node"] == 1
    # A folder: each picture, by the name of its file.
    (folder / "broken.png").write_text("this is text")
    code, out, error = run("iset", folder)
    assert code == 2 and out.count("\n") == len(pictures(folder)) - 1
    assert error.startswith(f"loggos: {folder / 'broken.png'}: ") and error.count("\n") == 1
    assert f"{picture}\t{hash}\n" in out
    code, out, error = run("iget", picture, "--within", 256, "--limit", 2)
    assert (code, out.count("\n"), error) == (0, 2, "loggos: there are more within 256 bits\n")
