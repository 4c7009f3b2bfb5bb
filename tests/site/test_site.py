"""The documentation site: it builds without a warning, and its pages work in a browser."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow
# A laptop and a phone.
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def site(root, tmp_path_factory) -> pathlib.Path:
    """The built site; the tutorials are run."""
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(folder / "doctrees"), str(root / "docs"), str(folder / "html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


def _pages(site: pathlib.Path) -> list[pathlib.Path]:
    return sorted(page for page in site.rglob("*.html") if "_static" not in page.parts)


def test_every_link_and_image_leads_somewhere(site):
    pages = _pages(site)
    texts = {page.resolve(): page.read_text(encoding="utf-8") for page in pages}
    assert len(pages) > 30
    broken, links = [], 0
    for page, text in texts.items():
        for target in re.findall(r'(?:href|src)="([^"]*)"', text):
            if re.match(r"https?:|mailto:|data:|#$", target) or not target:
                continue
            links += 1
            path, _, anchor = target.partition("#")
            file = (page.parent / path.partition("?")[0]).resolve() if path else page
            if not file.exists():
                broken.append(f"{page.name}: {target}")
            elif anchor and file in texts and f'id="{anchor}"' not in texts[file]:
                broken.append(f"{page.name}: {target}")
    assert links > 1000
    assert not broken


def test_nothing_comes_from_the_network(site):
    for page in _pages(site):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|link)[^>]*(?:src|href)="(https?://[^"]*)"', text)
        assert not loaded, page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_work_in_a_browser(site, width, scheme):
    """No error of a script, no image that fails, and nothing wider than the window."""
    api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    faults = []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        tab = context.new_page()
        tab.on("pageerror", lambda error: faults.append(f"{tab.url}: {error}"))
        tab.on("requestfailed", lambda request: faults.append(f"{tab.url}: {request.url}"))
        for page in _pages(site):
            tab.goto(page.as_uri())
            wide = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            if wide > 0:
                faults.append(f"{page.name}: {wide} pixels wider than a window of {width}")
            blank = "[...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
            faults += [f"{page.name}: {source}" for source in tab.evaluate(blank)]
        browser.close()
    assert not faults
