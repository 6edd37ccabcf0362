"""The API over a model, within its limits."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray

from imgcls.evaluation.conformal import Conformal
from imgcls.evaluation.rejecting import Rejection
from imgcls.inference.caution import Caution
from imgcls.inference.reading import Told
from imgcls.serving.app import create_app
from imgcls.serving.limits import Limits
from imgcls.serving.served import Served

LIMITS = Limits(megabytes=0.5, images=3, megapixels=1)


@pytest.fixture
def client(served: Served) -> Iterator[TestClient]:
    with TestClient(create_app(served, LIMITS)) as client:
        yield client


def post(client: TestClient, *contents: bytes, **fields: str) -> Any:
    files = [("files", (f"{number}.png", content, "image/png")) for number, content in enumerate(contents)]
    return client.post("/api/predict", files=files, data=fields)


def test_each_image_gets_probabilities_and_a_decision(client: TestClient, png: Any) -> None:
    found = post(client, png(255), png(0), png(102)).json()
    assert found["model"] == "lamps"
    assert found["threshold"] == "max_f1"
    assert [one["file"] for one in found["results"]] == ["0.png", "1.png", "2.png"]
    assert [one["probs"]["light"] for one in found["results"]] == pytest.approx([1, 0, 0.4])
    assert [one["decision"] for one in found["results"]] == ["light", "dark", "light"]


def cautious(served: Served) -> Served:
    """Its limit of distance is half of the light; it is sure from a quarter of the way on."""
    sets = Conformal(alpha=0.1, limits=(0.3, 0.3), classes=served.decider.classes, num_records=9, num_groups=9)
    reject = Rejection(limit=0.25, rule="max_f1", risk=0.0, coverage=0.9, num_records=9)
    caution = Caution(sets=sets, reject=reject)

    def tell(pixels: NDArray[Any]) -> Told:
        said = served.tell(pixels)
        columns = caution.columns(said.probs, [], served.decider)
        distance = said.probs[:, 1] * 2
        return attrs.evolve(said, columns={"distance": distance, "unlike": distance > 1, **columns})

    return attrs.evolve(served, tell=tell, caution=caution)


def test_what_speaks_against_an_answer_is_told(served: Served, png: Any) -> None:
    with TestClient(create_app(cautious(served), LIMITS)) as client:
        dark, middle, light = post(client, png(0), png(110), png(255)).json()["results"]
        other = post(client, png(110), threshold="0.2").json()["results"][0]
        about = client.get("/api/model").json()
    assert [one["unlike"] for one in (dark, middle, light)] == [False, False, True]
    assert [one["rejected"] for one in (dark, middle, light)] == [False, True, False]
    assert [one["set"] for one in (dark, middle, light)] == ["dark", "", "light"]
    assert light["distance"] == pytest.approx(2)
    assert other["rejected"] is None  # it goes with the threshold of the model
    assert (about["guard"], about["sets_miss"], about["abstains"]) == (False, 0.1, True)


def test_a_model_without_guard_sets_and_abstention_says_so(client: TestClient, png: Any) -> None:
    found = post(client, png(0)).json()["results"][0]
    assert [found[name] for name in ("distance", "unlike", "set", "rejected")] == [None] * 4


@pytest.mark.parametrize("form", ["JPEG", "BMP", "GIF", "TIFF", "WEBP"])
def test_every_form_of_image_is_read(form: str, client: TestClient, png: Any) -> None:
    assert post(client, png(255, form=form)).json()["results"][0]["decision"] == "light"


@pytest.mark.parametrize(("threshold", "decision"), [("sensitivity", "light"), ("0.31", "dark"), ("", "dark")])
def test_another_threshold_may_be_asked_for(threshold: str, decision: str, client: TestClient, png: Any) -> None:
    found = post(client, png(77), threshold=threshold).json()
    assert found["results"][0]["decision"] == decision
    assert found["threshold"] == {"sensitivity": "sensitivity>=0.95", "": "max_f1"}.get(threshold, threshold)


# A PNG of a few bytes that says it has 2000 x 2000 pixels.
def huge() -> bytes:
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", 2000, 2000, 8, 0, 0, 0, 0), b"IDAT" + zlib.compress(b"")]
    framed = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def truncated(png: bytes) -> bytes:
    return png[: len(png) // 2]


@pytest.mark.parametrize(
    ("content", "status", "error"),
    [
        (b"", 422, "image '0.png' must be readable, got an empty file"),
        (b"<svg onload=alert(1)>", 422, "image '0.png' must be readable, got no image of a known format"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 50, 422, "image '0.png' must be readable"),
        (huge(), 413, "image '0.png' must have at most 1 megapixels, got 4.0"),
        (b"x" * 600_000, 413, "the request must have at most 0.5 MB, got more"),
        (b"x" * 9_000_000, 413, "the request must have at most 0.5 MB, got more"),
    ],
)
def test_bad_files_are_refused_and_the_server_stays_up(
    content: bytes, status: int, error: str, client: TestClient, png: Any
) -> None:
    answer = post(client, content)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(error)
    assert post(client, png(255)).status_code == 200


def test_a_cut_off_image_is_refused_by_name(client: TestClient, png: Any) -> None:
    answer = post(client, png(255), truncated(png(3, size=(99, 99), form="JPEG")))
    assert answer.status_code == 422
    assert answer.json()["file"] == "1.png"


@pytest.mark.parametrize(
    ("fields", "count", "status", "error"),
    [
        ({}, 4, 422, "'files' must hold 1 to 3 images, got 4"),
        ({}, 5, 400, "the form must be whole and hold at most 3 images and 8 fields, got: Too many files"),
        ({"threshold": "max_f2"}, 1, 422, "'threshold' must be a rule"),
        ({"threshold": "youden"}, 1, 422, "'threshold' must be fitted in the run, got 'youden'"),
        ({"threshold": "1.5"}, 1, 422, "'threshold"),
        ({"map": "maybe"}, 1, 422, "'map' must be true or false, got 'maybe'"),
        ({"map": "true"}, 1, 422, "'map' must be left out for an export"),
        ({"mapp": "true"}, 1, 422, "the form must have 'files', 'threshold' and 'map' alone, got 'mapp'"),
    ],
)
def test_wrong_forms_are_refused(
    fields: dict[str, str], count: int, status: int, error: str, client: TestClient, png: Any
) -> None:
    answer = post(client, *[png()] * count, **fields)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(error)


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "multipart/form-data; boundary=x"])
def test_a_body_that_is_no_form_is_refused(kind: str, client: TestClient) -> None:
    answer = client.post("/api/predict", content=b'{"files": []}', headers={"content-type": kind})
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]


def test_a_length_that_is_not_told_is_limited_as_well(client: TestClient) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    parts = (part for part in [head, *[b"x" * 100_000] * 20, b"\r\n--x--\r\n"])
    answer = client.post("/api/predict", content=parts, headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 413
    assert answer.json()["error"] == "the request must have at most 0.5 MB, got more"


def test_a_failing_model_is_a_500_and_counted(served: Served, png: Any) -> None:
    def broken(pixels: Any) -> Any:
        raise ArithmeticError

    app = create_app(attrs.evolve(served, tell=broken), LIMITS)
    with TestClient(app, raise_server_exceptions=False) as client:
        assert post(client, png()).status_code == 500
        assert client.get("/health").status_code == 200
        assert 'imgcls_requests_total{status="500"} 1' in client.get("/metrics").text


def test_maps_come_as_pictures(served: Served, png: Any) -> None:
    asked: list[int] = []

    def draw(pixels: Any, target: int) -> bytes:
        asked.append(target)
        return b"picture"

    with TestClient(create_app(attrs.evolve(served, draw=draw), LIMITS)) as client:
        found = post(client, png(255), png(0), map="true").json()["results"]
    assert [one["map"] for one in found] == ["data:image/png;base64," + base64.b64encode(b"picture").decode()] * 2
    assert asked == [1, 0]


def test_the_model_tells_what_it_is(client: TestClient) -> None:
    about = client.get("/api/model").json()
    assert about["classes"] == ["dark", "light"]
    assert about["thresholds"] == {"max_f1": {"light": 0.4}, "sensitivity>=0.95": {"light": 0.2}}
    assert (about["size"], about["maps"], about["max_images"]) == ([8, 8], False, 3)


def test_health_and_metrics_are_told(client: TestClient, png: Any) -> None:
    post(client, png(), png())
    post(client, b"no image")
    assert client.get("/health").json()["status"] == "ok"
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
    assert lines['imgcls_requests_total{status="200"}'] == "1"
    assert lines['imgcls_requests_total{status="422"}'] == "1"
    assert lines["imgcls_images_total"] == "2"
    assert lines['imgcls_request_seconds_bucket{le="+Inf"}'] == lines["imgcls_request_seconds_count"] == "2"
    assert int(lines["imgcls_resident_memory_bytes"]) > 1e7


def test_the_schema_describes_the_api(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {"/api/predict", "/api/model", "/health", "/metrics"}
    predict = schema["paths"]["/api/predict"]["post"]
    assert set(predict["responses"]) == {"200", "400", "413", "415", "422", "503"}
    form = predict["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {"files", "threshold", "map"}
    assert "probs" in schema["components"]["schemas"]["Result"]["properties"]


def test_the_page_asks_nobody_else(client: TestClient) -> None:
    page = client.get("/")
    assert not re.findall(r"(?:https?:)?//[a-z]", page.text)
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert client.get("/docs").status_code == 404  # it would load scripts from elsewhere


def test_a_foreign_name_of_the_server_is_refused(served: Served) -> None:
    with TestClient(create_app(served, LIMITS, hosts=("localhost",)), base_url="http://evil.example") as client:
        assert client.get("/api/model").status_code == 400


def test_unknown_addresses_are_told_as_json(client: TestClient) -> None:
    assert client.get("/api/nothing").json() == {"error": "Not Found"}
    assert client.get("/api/predict").status_code == 405
