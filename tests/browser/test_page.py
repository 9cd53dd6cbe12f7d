"""The status page in a browser: it is true and live, shows trouble, and is there for everybody."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect

from tests.browser.stage import BAD_CLIENT, BROKEN, GAPPY, Stage
from tests.e2e.scene import ACCESS_KEY, SECRET_KEY

pytestmark = [pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(240)]

_IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
_DESKTOP, _PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}
#: The verdict on the traffic of these tests, in which files are missing, set aside, and have bad lines.
_AMBER = re.compile("files? missing|files? set aside|lines .*rejected|more$")
_SOON = 45_000  # ms; what takes a few polls and ticks


class Watched:
    """A page whose console and requests are kept."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._request)
        page.goto(address)

    def _console(self, line: ConsoleMessage) -> None:
        if line.type in ("error", "warning"):
            self.complaints.append(line.text)

    def _request(self, request: Request) -> None:
        self.asked.append(request.url)


def opened(browser: Browser, address: str, **options: Any) -> Watched:
    """A new window with the page in it."""
    context = browser.new_context(**{"viewport": _DESKTOP, "timezone_id": "UTC", **options})
    page = context.new_page()
    page.set_default_timeout(_SOON)
    return Watched(page, address)


@pytest.fixture
def watched(browser: Browser, installation: Stage) -> Iterator[Watched]:
    """The page, open; whatever a test does with it, the console must stay empty and nothing come from elsewhere."""
    found = opened(browser, installation.address)
    yield found
    assert found.complaints == []
    assert {urlsplit(url).netloc for url in found.asked} == {urlsplit(installation.address).netloc}
    found.page.context.close()


def status(installation: Stage) -> Any:
    code, body = installation.exporter.get("/api/status")
    assert code == 200
    return json.loads(body)


def picture(page: Page, name: str, *, height: int = 0) -> None:
    """Renew an image of the documentation, when asked to."""
    if os.environ.get("SCREENSHOTS"):
        _IMAGES.mkdir(exist_ok=True)
        size = page.viewport_size
        assert size is not None
        page.set_viewport_size({"width": size["width"], "height": height or size["height"]})
        page.screenshot(path=_IMAGES / f"{name}.png")
        page.set_viewport_size(size)


def test_it_shows_what_the_exporter_does(watched: Watched, installation: Stage) -> None:
    """Verdict, figures, stages, shards, plots and rankings are those of the API."""
    page = watched.page
    expect(page.get_by_role("heading", level=1)).to_have_text("Up to date", timeout=_SOON)
    expect(page.locator("#stages .stage b")).to_have_text(["List", "Fetch", "Decode", "Count", "Push", "Delete"])
    expect(page.locator("#rankings h3")).to_have_count(8)
    for title in (
        "Streams by viewers now",
        "Streams by watch time",
        "Streams by sessions",
        "Streams by active viewers",
        "Streams by bandwidth",
        "Countries by active viewers",
    ):
        expect(page.locator("#rankings > div", has_text=title).locator("li").first).to_be_visible(timeout=_SOON)
    told = status(installation)
    first = told["audience"]["streams_by_viewers"][0]["name"]
    expect(page.locator("#rankings .name", has_text=first).first).to_be_visible()
    expect(page.locator("#rankings .name", has_text=re.compile("^US$"))).to_be_visible()
    expect(page.locator("#shards th")).to_have_count(len(told["completeness"]["shards"]))
    expect(page.get_by_role("img", name=re.compile("Lines counted: now .* at most"))).to_be_visible(timeout=_SOON)
    expect(page.locator("#version")).to_have_text(told["version"])


def test_it_shows_gaps_rejects_and_files_set_aside(watched: Watched) -> None:
    """Missing sequence numbers, an example of each reject without its address, and the file with its reason."""
    page = watched.page
    row = page.locator("#shards tr", has=page.get_by_role("rowheader", name=str(GAPPY), exact=True))
    expect(row.locator(".gap")).to_have_text("2 missing: 43–44", timeout=_SOON)
    expect(row.locator(".sequence .absent")).to_have_count(2)
    reject = page.locator("#rejects tr", has_text="bad_path")
    expect(reject.locator("code")).to_contain_text("clientRequestPath", timeout=_SOON)
    expect(page.locator("#ignored tr", has_text="timeToFirstByteMs")).to_contain_text("rtl.a0a0+7+", timeout=_SOON)
    expect(page.locator("#aside tr", has_text=BROKEN)).to_contain_text("not_gzip", timeout=_SOON)
    expect(page.locator("#log")).to_contain_text("file_set_aside")
    page.locator("summary").click()
    expect(page.locator("#values tr", has_text="S3_SECRET_KEY")).to_contain_text("***")
    content = page.content()
    assert not any(secret in content for secret in (BAD_CLIENT, SECRET_KEY, ACCESS_KEY))


def test_it_is_live(watched: Watched) -> None:
    """New events change what is shown, without loading anything again."""
    page = watched.page
    expect(page.locator("#connection")).to_have_text("Live")
    loaded = len(watched.asked)
    for _ in range(3):
        before = page.locator("body").get_attribute("data-shown") or ""
        expect(page.locator("body")).not_to_have_attribute("data-shown", before)
    assert len(watched.asked) == loaded


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("size", "viewport"), [("desktop", _DESKTOP), ("phone", _PHONE)])
def test_it_is_accessible(
    browser: Browser, installation: Stage, scheme: str, size: str, viewport: dict[str, int]
) -> None:
    """axe-core finds no violation, nothing is wider than the window, and the documentation gets its pictures."""
    found = opened(browser, installation.address, viewport=viewport, color_scheme=scheme)
    page = found.page
    expect(page.get_by_role("heading", level=1)).to_have_text(_AMBER, timeout=_SOON)
    expect(page.locator("#rankings li").first).to_be_visible(timeout=_SOON)
    if os.environ.get("SCREENSHOTS"):  # with some minutes in its plots
        expect(page.get_by_role("img", name=re.compile("Lines counted.*in the last [2-9] min"))).to_be_visible(
            timeout=200_000
        )
    picture(page, f"status-{size}-{scheme}", height=1420 if size == "desktop" else 0)
    page.locator("summary").click()
    violations = Axe().run(page).response["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert found.complaints == []
    page.context.close()


def test_it_can_be_used_by_keyboard(watched: Watched) -> None:
    """The first stop skips to the status; the settings open with Enter."""
    page = watched.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the status")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#values tr", has_text="POLL_INTERVAL")).to_be_visible()


def test_it_shows_trouble_and_its_end(watched: Watched, installation: Stage) -> None:
    """With the receiver away the page says so, and what happens meanwhile; when it is back, all is well again."""
    page, prometheus = watched.page, installation.scene.prometheus
    verdict = page.get_by_role("heading", level=1)
    expect(verdict).to_have_text(_AMBER, timeout=_SOON)
    prometheus.stop()
    expect(verdict).to_have_text(re.compile("^No connection to .*"), timeout=_SOON)
    expect(page.locator("#problems")).to_contain_text("receiver")
    expect(page.locator("#problems")).to_contain_text("the files stay in the bucket")
    expect(page.locator("#log")).to_contain_text("push_retried", timeout=_SOON)
    picture(page, "status-trouble")
    assert Axe().run(page).response["violations"] == []
    prometheus.start()
    expect(verdict).to_have_text(_AMBER, timeout=90_000)
    expect(page.locator("#problems")).not_to_contain_text("No connection")


def test_it_says_when_nobody_answers(browser: Browser, installation: Stage) -> None:
    """When the exporter is gone what is shown is said to be old; after its return the page goes on by itself."""
    found = opened(browser, installation.address)
    page, verdict = found.page, found.page.get_by_role("heading", level=1)
    expect(page.locator("#connection")).to_have_text("Live", timeout=_SOON)
    installation.exporter.kill()
    expect(verdict).to_have_text("No connection to the exporter", timeout=_SOON)
    expect(page.locator("#connection")).to_have_text("Not connected")
    installation.exporter.start()
    expect(verdict).to_have_text(_AMBER, timeout=90_000)
    page.context.close()
