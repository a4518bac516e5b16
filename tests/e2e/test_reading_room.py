"""The reading room in a real browser: images handed in three ways, read, looked at, forgotten; models that arrive."""

from __future__ import annotations

import http.client
import io
import json
import signal
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from fl_protocol.codec import encode
from fl_protocol.messages import OPEN, Chunk, LastRound, RoundState
from fl_protocol.modelfile import DIGEST_KEY, read_header
from fl_protocol.tensors import CHUNKS_PER_BLOCK, MAX_CHUNK_BYTES
from fl_protocol.topics import Kind, Topic
from fl_protocol.transport import BrokerOptions, MqttTransport
from fl_tasks.base import Place
from fl_tasks.params import write_params
from fl_tasks.registry import get_task
from tests.browsers import hand_in, opened, violations
from tests.e2e.processes import Program, Programs, until
from tests.radiographs import chest, radiograph

PHRASE = "For research, not for diagnosis"
SIZES = ((1440, 900), (390, 844))


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of 1440 x 900; whatever goes wrong in a script fails the test."""
    with opened(browser, "about:blank") as found:
        yield found


def model(path: Path, number: int) -> str:
    """A model as round ``number`` would make it; returns its digest."""
    made = get_task("chest-xray", Place("cpu", 1)).initialise("hilum-cnn", 48, number, None)
    said = {**made.metadata, "round": str(number), "temperature": "1.2"}
    write_params(path, made.params, said)
    digest = read_header(path).manifest("model", MAX_CHUNK_BYTES).digest
    write_params(path, made.params, {**said, DIGEST_KEY: digest})
    return digest


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, kind)
    return written.getvalue()


def url_of(program: Program) -> str:
    return program.says(r"reading room at (http://\S+)")[1]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """An upright chest as JPEG, one that lies on its side as PNG, and one in DICOM."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "upright.jpeg").write_bytes(encoded(chest(0), "JPEG"))
    (folder / "lying.png").write_bytes(encoded(np.ascontiguousarray(np.rot90(chest(0)))))
    radiograph(folder / "chest.dcm", chest(2).astype(np.uint16) * 16)
    return [folder / name for name in ("upright.jpeg", "lying.png", "chest.dcm")]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, str]]:
    """A reading room with a model from a file, and its address."""
    folder = tmp_path_factory.mktemp("room")
    model(folder / "global.safetensors", 3)
    programs = Programs(folder, "", "")
    try:
        program = programs.start(
            "fl-edge", "serve", "--model", "global.safetensors", "--listen", "127.0.0.1:0"
        )
        url = url_of(program)
        program.says(r"is ready \(ONNX Runtime\)")
        yield program, url
    finally:
        programs.close()


def read(page: Page, count: int) -> None:
    """Wait until so many images of the list have an answer."""
    expect(page.locator(".entry .what b, .entry .wrong")).to_have_count(count, timeout=60_000)


def test_images_are_chosen_dropped_and_pasted_read_and_forgotten(
    room: tuple[Program, str], page: Page, files: list[Path]
) -> None:
    program, url = room
    page.goto(url)
    expect(page.locator("#model")).to_contain_text("hilum-cnn for chest-xray")
    page.set_input_files("#files", [files[0]])
    hand_in(page, "drop", files[1])
    hand_in(page, "paste", files[2])
    read(page, 3)
    expect(page.locator("#count")).to_have_text("3")
    verdict = page.locator(".verdict")
    expect(verdict.locator(".class")).to_have_text(page.locator(".entry b").first.inner_text())
    expect(verdict.locator(".meaning")).to_contain_text("X-rays that this model scores like this")
    expect(verdict.locator(".band")).to_contain_text("radiologist")
    expect(verdict).to_contain_text("model of round 3")
    page.get_by_role("button", name="lying.png").click()
    expect(page.locator(".warnings")).to_contain_text("lying on a side")
    expect(verdict.locator(".band.refer")).to_contain_text("the model's answer does not count")
    expect(page.locator(".entry", has_text="lying.png").locator(".what")).to_have_text("Not upright? · refer")
    page.get_by_role("button", name="chest.dcm").click()
    expect(verdict).to_contain_text("128 × 128 pixels")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#work")).to_be_hidden()
    expect(page.locator("#nothing")).to_be_visible()
    assert page.locator("canvas").count() == 0
    expect(page.locator("#said")).to_have_text("All images are forgotten.")
    left = [file.name for file in program.stdout.parent.rglob("*") if file.is_file()]
    assert not [
        name for name in left if not name.endswith((".onnx", ".safetensors", ".json", ".out", ".err", "lock"))
    ]


def test_the_heat_map_lies_on_the_image_and_fades(
    room: tuple[Program, str], page: Page, files: list[Path]
) -> None:
    page.goto(room[1])
    page.set_input_files("#files", [files[0]])
    read(page, 1)
    heat, image, slider = page.locator(".heat"), page.locator(".image"), page.get_by_label("Heat map")
    assert heat.bounding_box() == image.bounding_box()
    for value in ("0", "100", "30"):
        slider.fill(value)
        assert heat.evaluate("node => getComputedStyle(node).opacity") == str(int(value) / 100).rstrip(
            "0"
        ).rstrip(".")
        expect(page.locator("output")).to_have_text(f"{value} %")
    said = page.locator(".stack").get_attribute("aria-label") or ""
    assert (
        (said.startswith("X-ray upright.jpeg. ") and "part of the image" in said)
        or "middle" in said
        or "Nothing" in said
    )
    before = heat.evaluate("node => node.toDataURL()")
    page.locator(".heat-of input:not(:checked)").check()
    assert heat.evaluate("node => node.toDataURL()") != before


def test_the_keyboard_alone_is_enough(room: tuple[Program, str], page: Page, files: list[Path]) -> None:
    # Heard of before the page is opened: Chromium may take a key before it takes a listener that was sent first.
    page.on("filechooser", lambda chooser: chooser.set_files(files))
    page.goto(room[1])

    def focused() -> str:
        found: str = page.evaluate("document.activeElement.id || document.activeElement.className")
        return found

    for _ in range(6):
        page.keyboard.press("Tab")
        if focused() == "files":
            break
    assert focused() == "files"
    page.keyboard.press("Enter")
    read(page, 3)
    names = ["opacity", "entry"]
    seen: list[str] = []
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(focused())
        if focused() == "opacity":
            page.keyboard.press("End")
            expect(page.locator("output")).to_have_text("100 %")
        if focused() == "entry":
            break
    assert set(names) <= set(seen)
    page.keyboard.press("ArrowDown")
    expect(page.locator(".verdict h2")).to_have_text("lying.png")
    page.keyboard.press("End")
    expect(page.locator(".verdict h2")).to_have_text("chest.dcm")
    page.keyboard.press("Delete")
    expect(page.locator(".entry")).to_have_count(2)
    expect(page.locator(".verdict h2")).to_have_text("lying.png")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.textContent") == "Clear"
    page.keyboard.press("Enter")
    expect(page.locator(".entry")).to_have_count(0)
    assert focused() == "files"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_everybody_can_read_it(
    room: tuple[Program, str], browser: Browser, files: list[Path], scheme: Any, size: tuple[int, int]
) -> None:
    """axe finds nothing serious, nothing is wider than the screen, and what it is for is always in view."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page = context.new_page()
    page.goto(room[1])
    expect(page.locator("#model dl")).to_be_visible()
    audit(page)
    page.set_input_files("#files", [*files, Path(__file__)])
    read(page, 4)
    for number in (1, 2, 4):
        page.locator(".entry").nth(number - 1).click()
        audit(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for end in ("0", "document.documentElement.scrollHeight"):
            page.evaluate(f"scrollTo(0, {end})")
            box = page.locator(".research").bounding_box()
            assert page.locator(".research").inner_text() == PHRASE
            assert box is not None and box["y"] >= 0 and box["y"] + box["height"] <= size[1] + 1
    page.goto(f"{room[1]}/api")
    audit(page)
    context.close()


def audit(page: Page) -> None:
    assert violations(page) == []


# --- models that arrive --------------------------------------------------------------------------------------------


class Hub:
    """Publishes models as an aggregator does."""

    def __init__(self, options: BrokerOptions, job: str) -> None:
        self.job = job
        self.said = 0
        self.transport = MqttTransport(options, f"hub-{job}", None, lambda _: None)
        self.transport.start()

    def publish(self, path: Path, number: int, auroc: float, *, false: bool = False) -> str:
        """The model of round ``number``; ``false``: other contents than its manifest says."""
        file = read_header(path)
        manifest = file.manifest("model", MAX_CHUNK_BYTES, round_number=number, with_metadata=True)
        payload = b"".join(file.pieces())
        for index in range(manifest.num_chunks):
            at, length = manifest.chunk_span(index)
            data = bytes(length) if false else payload[at : at + length]
            topic = Topic(
                self.job, Kind.BLOCK, digest=manifest.digest, block=index // CHUNKS_PER_BLOCK, index=index
            )
            self.transport.publish(str(topic), encode(Chunk(index, data)), retain=True)
        self.transport.publish(
            str(Topic(self.job, Kind.MODEL, digest=manifest.digest)), encode(manifest), retain=True
        )
        self.said += 1
        state = RoundState(
            phase=OPEN, round_number=number + 1, rounds=9, attempt=1, cohort=("a",), base=manifest.digest, task="chest-xray",
            model="hilum-cnn", plan=None, instance="ab" * 8, seq=self.said,
            last=LastRound(number, "closed", 3, 0, 0, 1.0, {"auroc": auroc, "accuracy": 0.5}),
        )  # fmt: skip
        self.transport.publish(str(Topic(self.job, Kind.ROUND)), encode(state), retain=True)
        until(lambda: self.transport.backlog() == 0, "the broker has it all")
        return manifest.digest


@pytest.fixture
def hub(broker: Any, programs: Programs) -> Iterator[Hub]:
    found = Hub(replace(broker.options), programs.job)
    yield found
    found.transport.close()


def following(programs: Programs, address: str) -> Program:
    """A room that takes its models from a broker, and keeps them."""
    return programs.start(
        "fl-edge", "serve", "--broker", address, "--job", programs.job, "--listen", "127.0.0.1:0",
        "--workdir", "kept",
    )  # fmt: skip


def test_newer_models_arrive_while_the_page_is_open(
    hub: Hub, programs: Programs, page: Page, files: list[Path], broker_address: str
) -> None:
    digests = [model(programs.folder / f"{number}.safetensors", number) for number in range(5)]
    room = following(programs, broker_address)
    page.goto(url_of(room))
    card, news = page.locator("#model"), page.locator("#notices")
    expect(card).to_contain_text("No model is here yet")
    hub.publish(programs.folder / "1.safetensors", 1, 0.811)
    expect(card).to_contain_text("AUROC 0.811", timeout=60_000)
    expect(card).to_contain_text(digests[1][:16])
    page.set_input_files("#files", [files[0]])
    read(page, 1)
    expect(page.locator(".verdict")).to_contain_text("model of round 1")

    hub.publish(programs.folder / "2.safetensors", 2, 0.822)
    expect(news).to_contain_text("A new model has arrived: hilum-cnn for chest-xray, round 2", timeout=60_000)
    expect(card).to_contain_text("AUROC 0.822")
    news.get_by_role("button", name="Read the list again").click()
    expect(page.locator(".verdict")).to_contain_text("model of round 2")

    page.get_by_label("Which model reads").select_option(digests[1])
    expect(card).to_contain_text("AUROC 0.811")
    hub.publish(programs.folder / "3.safetensors", 3, 0.833)
    expect(news).to_contain_text("round 3. The one you chose stays in use", timeout=60_000)
    expect(card).to_contain_text("AUROC 0.811")

    hub.publish(programs.folder / "4.safetensors", 4, 0.844, false=True)
    expect(page.locator("#refused")).to_contain_text("A model was refused", timeout=60_000)
    expect(page.locator("#refused")).to_contain_text(digests[4][:12])
    page.get_by_label("Which model reads").select_option("")
    expect(card).to_contain_text("AUROC 0.833")

    room.send(signal.SIGTERM)
    assert room.wait() == 0, room.told()
    kept = sorted(file.stem for file in (programs.folder / "kept" / "models").glob("*.safetensors"))
    assert kept == sorted(digests[1:4])
    again = following(programs, "127.0.0.1:1")
    page.goto(url_of(again))
    expect(card).to_contain_text("AUROC 0.833", timeout=60_000)


# --- what is not taken ---------------------------------------------------------------------------------------------


def posted(url: str, files: list[tuple[str, bytes]], **headers: str) -> tuple[int, Any]:
    """What /predict answers."""
    body = io.BytesIO()
    for name, data in files:
        body.write(f'--e\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode())
        body.write(data + b"\r\n")
    body.write(b"--e--\r\n")
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    connection.request(
        "POST", "/predict", body.getvalue(), {"Content-Type": "multipart/form-data; boundary=e", **headers}
    )
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, json.loads(text) if text.startswith(("[", "{")) else text


def zipped() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.png", bytes(200_000_000))
    return written.getvalue()


def huge(side: int) -> bytes:
    """A PNG that says it is so large, and is not."""
    data = bytearray(encoded(np.eye(64, dtype=np.uint8)))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def test_hostile_uploads_are_rows_and_cost_no_memory(room: tuple[Program, str], files: list[Path]) -> None:
    program, url = room
    posted(url, [("x.jpeg", files[0].read_bytes())])
    before = program.peak_mb()
    assert posted(url, [("big.png", bytes(60_000_000))])[0] == 413
    status, rows = posted(url, [
        ("bomb.zip", zipped()), ("huge.png", huge(30_000)), ("cut.dcm", files[2].read_bytes()[:-900]),
        ("../../etc/passwd.png", files[0].read_bytes()), ("x.gif", b"GIF89a" + bytes(99)), ("x.png", b"<html>no image</html>"),
        ("noise.png", encoded(np.random.default_rng(0).integers(0, 256, (3000, 3000), np.uint8))),
    ])  # fmt: skip
    assert status == 200
    assert [row["file"] for row in rows] == [
        "bomb.zip",
        "huge.png",
        "cut.dcm",
        "passwd.png",
        "x.gif",
        "x.png",
        "noise.png",
    ]
    errors = [row.get("error", "") for row in rows]
    assert errors[0] == errors[4] == errors[5] == "is no JPEG, PNG or DICOM image"
    assert "million pixels" in errors[1] and ("cut" in errors[2] or "broken" in errors[2])
    assert errors[3] == errors[6] == ""
    assert program.peak_mb() < before + 120


def test_a_page_of_another_site_cannot_post(room: tuple[Program, str], files: list[Path]) -> None:
    image = [("x.jpeg", files[0].read_bytes())]
    assert posted(room[1], image, Origin="http://evil.example")[0] == 403
    assert posted(room[1], image, Host="evil.example")[0] == 403
    assert posted(room[1], image, Origin=room[1])[0] == 200


def test_a_file_too_large_for_the_page_is_a_row(
    room: tuple[Program, str], page: Page, tmp_path: Path
) -> None:
    (tmp_path / "large.png").write_bytes(bytes(51_000_000))
    page.goto(room[1])
    page.set_input_files("#files", [tmp_path / "large.png"])
    read(page, 1)
    expect(page.locator("#reading")).to_contain_text("has 51 MB: at most 50 MB are taken")


def test_a_model_that_was_altered_is_refused(programs: Programs) -> None:
    path = programs.folder / "m.safetensors"
    model(path, 1)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    room = programs.start("fl-edge", "serve", "--model", path, "--listen", "127.0.0.1:0")
    assert room.wait() == 2
    assert "was altered" in room.err and len(room.err.strip().splitlines()) == 1 and not room.out


def test_ctrl_c_ends_it_at_once_with_a_page_open(programs: Programs, page: Page) -> None:
    model(programs.folder / "m.safetensors", 1)
    room = programs.start("fl-edge", "serve", "--model", "m.safetensors", "--listen", "127.0.0.1:0")
    page.goto(url_of(room))
    expect(page.locator("#model dl")).to_be_visible(timeout=60_000)
    room.interrupt()
    assert room.wait(15) == 130 and room.err == "", room.told()


def test_a_login_that_is_refused_ends_it(programs: Programs, login_broker: Any) -> None:
    room = programs.start(
        "fl-edge", "serve", "--broker", login_broker.options.where, "--listen", "127.0.0.1:0"
    )
    assert room.wait() == 3
    assert "asks for a login" in room.err
