"""Images changed to prompts, and images like others: which are sent, as which form, and whole runs."""

import re
import struct
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import QUICK, run
from test_cli import run as command
from test_contract import asked

from beam_openai import API, column
from beam_openai.emulator.media.pngs import picture, read_header
from beam_openai.endpoints.image_edits import ImageEdits
from beam_openai.endpoints.image_variations import ImageVariations

pytestmark = pytest.mark.usefixtures("clean")


def png(width=64, height=None, transparent=True, seed=b"seed"):
    return picture(seed, width, height or width, transparent)


def padded(data, size):
    """The same picture in a file of so many bytes."""
    filler = bytes(size - len(data) - 12)
    chunk = struct.pack(">I", len(filler)) + b"prVt" + filler + struct.pack(">I", zlib.crc32(b"prVt" + filler))
    return data[:33] + chunk + data[33:]


PNG, OTHER, OPAQUE, MASK = png(), png(seed=b"other"), png(transparent=False), png(seed=b"mask")
JPEG, WEBP = b"\xff\xd8\xff\xe0" + bytes(60), b"RIFF\0\0\0\0WEBP" + bytes(60)
MB = 1 << 20


def edits(model="dall-e-2", **options):
    return ImageEdits(model=model, **options)


def variations(model="dall-e-2", **options):
    return ImageVariations(model=model, **options)


def pictures(*images, **columns):
    return pa.table({"image": pa.array(images, columns.pop("kind", None)), "prompt": ["hat"] * len(images), **columns})


def form(endpoint, rows):
    body = endpoint.request(rows).body
    return dict(body.fields), [(file.field, file.name, file.content_type, bytes(file.data)) for file in body.files]


def why(endpoint, image, mask=None):
    """Why an image cannot be sent; None if it can."""
    rows = pictures(image, **({} if mask is None else {"mask": [mask]}))
    return endpoint.invalid(rows).get(0)


# Which are sent


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (JPEG, "not PNG"),
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n", "without its header"),
        (png(10, 20), "10x20, and must be square"),
        (padded(PNG, 4 * MB), "4,194,304 bytes, and must have fewer than 4 MB"),
        (None, "null"),
    ],
)
@pytest.mark.parametrize("endpoint", [edits(), variations()], ids=["edits", "variations"])
def test_what_dall_e_2_cannot_take_fails_here(endpoint, image, says):
    assert says in why(endpoint, image)


def test_dall_e_2_takes_a_square_png_of_just_under_4_mb():
    assert why(edits(), padded(PNG, 4 * MB - 1)) is None
    assert why(variations(), padded(OPAQUE, 4 * MB - 1)) is None


@pytest.mark.parametrize(
    ("image", "mask", "says"),
    [
        (OPAQUE, None, "no alpha channel, and there is no mask"),
        (PNG, png(32), "mask is 32x32, and the image 64x64"),
        (PNG, JPEG, "mask is not PNG"),
        (PNG, b"", "mask is empty"),
        (PNG, OPAQUE, "mask has no alpha channel"),
        (PNG, padded(MASK, 4 * MB), "mask is not PNG of fewer than 4 MB"),
    ],
)
def test_a_mask_must_go_with_its_image(image, mask, says):
    assert says in why(edits(), image, mask)


def test_a_mask_makes_up_for_an_alpha_channel():
    assert why(edits(), OPAQUE, MASK) is None
    assert why(edits(), PNG) is None
    assert why(edits("gpt-image-1"), OPAQUE) is None
    assert "32x32" in why(edits("gpt-image-1"), PNG, png(32))


@pytest.mark.parametrize("image", [PNG, OPAQUE, JPEG, WEBP, png(10, 20), padded(PNG, 5 * MB)], ids=len)
def test_gpt_image_takes_more(image):
    assert why(edits("gpt-image-1"), image) is None


def test_gpt_image_takes_16_images_each_of_less_than_50_mb():
    several = {"kind": pa.list_(pa.binary())}
    rows = pictures([PNG] * 16, [PNG] * 17, [PNG, b"GIF89a" + bytes(9)], [], [PNG, None], **several)
    reasons = edits("gpt-image-1").invalid(rows)
    assert list(reasons) == [1, 2, 3, 4]
    assert "17 images, and gpt-image-1 takes 16" in reasons[1] and "not PNG or WEBP or JPEG" in reasons[2]
    assert "fewer than 50 MB" in why(edits("gpt-image-1"), padded(PNG, 50 * MB))
    assert "2 images, and dall-e-2 takes 1" in edits().invalid(pictures([PNG, PNG], **several))[0]


def test_of_other_models_nothing_is_presumed():
    for image in (JPEG, b"BM" + bytes(60), png(10, 20), OPAQUE):
        assert why(edits("painter"), image) is None and why(variations("painter"), image) is None
    assert why(edits("painter"), b"") and why(edits("painter"), None)


def test_a_column_that_holds_no_bytes_is_told():
    assert edits().invalid(pictures("cat.png")) == {0: "image is string, not an image's bytes"}
    assert edits().invalid(pictures(PNG, mask=["x"])) == {0: "mask is string, not an image's bytes"}
    assert edits().invalid(pictures(PNG, mask=pa.nulls(1))) == {}


@pytest.mark.parametrize("model", ["dall-e-3", "gpt-image-1"])
def test_only_dall_e_2_makes_variations(model):
    with pytest.raises(ValueError, match=model):
        variations(model)


@pytest.mark.parametrize(
    "make",
    [
        lambda: edits("dall-e-3"),
        lambda: edits("gpt-image-1", response_format="url"),
        lambda: edits(input_fidelity="high"),
        lambda: edits(n=11),
        lambda: edits(params={"anything": None}),
        lambda: edits(params={"mask": "x"}),
        lambda: variations(size="1x1"),
        lambda: variations(params={"image": "x"}),
    ],
)
def test_options_that_can_never_work_are_refused(make):
    with pytest.raises(ValueError):
        make()


# As which form


def test_one_image_and_its_mask_are_files_of_the_form():
    rows = pictures(PNG, mask=[MASK])
    fields, files = form(edits(n=2, size="256x256", params={"more": {"a": [1, True]}}), rows)
    assert fields == {
        "model": "dall-e-2", "response_format": "b64_json", "n": "2", "size": "256x256", "prompt": "hat",
        "more[a][]": "true",
    }  # fmt: skip
    assert files == [("image", "image.png", "image/png", PNG), ("mask", "mask.png", "image/png", MASK)]
    assert form(edits(mask=None), rows)[1] == files[:1]


def test_several_images_have_brackets_behind_their_name():
    rows = pictures([PNG, JPEG, WEBP], kind=pa.list_(pa.large_binary()))
    fields, files = form(edits("gpt-image-1"), rows)
    assert fields == {"model": "gpt-image-1", "prompt": "hat"}
    assert [file[:3] for file in files] == [
        ("image[]", "image.png", "image/png"),
        ("image[]", "image.jpg", "image/jpeg"),
        ("image[]", "image.webp", "image/webp"),
    ]


def test_an_image_is_not_copied_into_the_form():
    image = pa.array([padded(PNG, 3 * MB)])
    rows = pa.table({"image": image, "prompt": ["hat"]})
    before = pa.total_allocated_bytes()
    (file,) = edits().request(rows).body.files
    assert isinstance(file.data, memoryview) and file.data.nbytes == 3 * MB
    assert pa.total_allocated_bytes() == before


def test_a_mask_by_another_name_must_be_there():
    assert (edits().inputs, edits().optional_inputs) == (["image", "prompt"], ["mask"])
    assert (edits(mask="hole").inputs, edits(mask="hole").optional_inputs) == (["image", "hole", "prompt"], [])
    assert edits(mask=None).optional_inputs == []
    assert edits(prompt="at {mask}").optional_inputs == []


# Whole runs


def options(server, **more):
    return {"api": API(base_url=server.base_url), "retry": QUICK, **more}


def test_images_are_changed_with_masks_and_without(emulator):
    rows = pictures(PNG, OTHER, OPAQUE, OPAQUE, mask=[None, MASK, MASK, None])
    outcome = run([rows], edits(**options(emulator, size="256x256")))
    assert len({row["edited"] for row in outcome.rows()}) == 3
    assert {read_header(row["edited"]).width for row in outcome.rows()} == {256}
    assert [row["error"]["kind"] for row in outcome.rows("failed")] == ["invalid_input"]
    assert sorted("mask" in request["body"] for request in asked(emulator)) == [False, True, True]


def test_several_images_become_one(emulator):
    rows = pictures([PNG, OTHER], [OTHER], kind=pa.list_(pa.binary()), mask=[MASK, None])
    outcome = run([rows], edits(**options(emulator, model="gpt-image-1", n=2)))
    assert [len(row["edited"]) for row in outcome.rows()] == [2, 2]
    sent = [request["body"]["image"] for request in asked(emulator)]
    assert len(sent) == 2 and ["image.png", "image.png"] in sent and "image.png" in sent
    assert outcome.counter("completion_tokens") == 4 * 1056


def test_each_row_may_have_its_own_model_and_is_held_to_its_rules(emulator):
    rows = pictures(OPAQUE, OPAQUE, model=["gpt-image-1", "dall-e-2"])
    outcome = run([rows], edits(**options(emulator, model=column("model"))))
    assert [row["model"] for row in outcome.rows()] == ["gpt-image-1"]
    assert "no alpha channel" in outcome.rows("failed")[0]["error"]["message"]


def test_what_the_server_cannot_read_is_that_rows_trouble(emulator):
    spoilt = PNG[:60] + b"\xff\xff" + PNG[62:]
    outcome = run([pictures(PNG, spoilt)], variations(**options(emulator)))
    (failed,) = outcome.rows("failed")
    assert failed["image"] == spoilt and failed["error"]["kind"] == "rejected"
    assert "must be a PNG" in failed["error"]["message"] and len(outcome.rows()) == 1


def test_a_retry_sends_the_same_image_again_and_is_billed_once(emulator):
    emulator.inject("server_error", times=2, path="/images/variations")
    emulator.inject("reset", path="/images/variations")
    outcome = run([pictures(PNG)], variations(**options(emulator)))
    assert len(outcome.rows()) == 1
    assert len({request["size"] for request in emulator.requests()}) == 1
    assert emulator.ledger()["requests"] == 4 and emulator.ledger()["billed_inputs"] == 1


def test_rows_that_are_dicts_with_lists_of_images_are_gathered_by_their_bytes(emulator):
    rows = [{"id": n, "image": [padded(PNG, MB), padded(OTHER, MB)], "prompt": f"{n}"} for n in range(6)]
    outcome = run(rows, edits(**options(emulator, model="gpt-image-1")))
    assert sorted(row["id"] for row in outcome.rows()) == list(range(6))


def test_a_folder_of_photos_becomes_rows_and_files(emulator, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, data in {"a.png": PNG, "b.PNG": OTHER, "c.jpg": JPEG, "notes.txt": b"none"}.items():
        (photos / name).write_bytes(data)
    ended = command(
        "image-variations", "--input", f"{photos}/", "--output", tmp_path / "out", "--base-url", emulator.base_url,
        "--model", "dall-e-2", "--size", "256x256", "--files-dir", tmp_path / "files",
    )  # fmt: skip
    assert ended.returncode == 3, ended.stderr
    assert "2 rows answered, 1 failed" in ended.stdout and "image is not PNG" in ended.stdout
    rows = sorted(pq.read_table(tmp_path / "out").to_pylist(), key=lambda row: row["name"])
    assert [(row["name"], row["path"], row["image"]) for row in rows] == [
        ("a.png", f"{photos}/a.png", PNG),
        ("b.PNG", f"{photos}/b.PNG", OTHER),
    ]
    written = {path.name: path.read_bytes() for path in (tmp_path / "files").iterdir()}
    assert written == {"a.png": rows[0]["variation"], "b.png": rows[1]["variation"]}
    (failed,) = pq.read_table(tmp_path / "out.failed").to_pylist()
    assert failed["name"] == "c.jpg"


@pytest.mark.parametrize(
    ("names", "pattern", "says"),
    [
        (["a.png", "labels.csv"], "", r"has both files \(.*a.png\) and tables \(.*labels.csv\)"),
        (["notes.txt"], "", "no files match .*: no tables, and none whose names end in gif, jpeg, jpg, png, webp"),
        ([], "/*.png", "no files match"),
    ],
)
def test_an_input_that_is_neither_or_both_is_refused(emulator, tmp_path, names, pattern, says):
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).write_bytes(PNG)
    ended = command(
        "image-variations", "--input", f"{tmp_path}/in{pattern}", "--output", tmp_path / "out",
        "--base-url", emulator.base_url, "--model", "dall-e-2",
    )  # fmt: skip
    assert ended.returncode == 2
    assert re.search(says, ended.stderr)


def test_a_table_of_images_is_read_as_a_table(emulator, tmp_path):
    pq.write_table(pa.table({"picture": [PNG, OTHER], "what": ["hat", "tie"]}), tmp_path / "in.parquet")
    ended = command(
        "image-edits", "--input", tmp_path, "--output", tmp_path / "out", "--base-url", emulator.base_url,
        "--model", "dall-e-2", "--column", "picture", "--prompt", "A {what}", "--output-column", "worn",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert pq.read_table(tmp_path / "out").column_names == ["picture", "what", "worn"]
    assert sorted(request["body"]["prompt"] for request in asked(emulator)) == ["A hat", "A tie"]
