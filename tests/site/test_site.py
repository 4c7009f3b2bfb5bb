"""The documentation site: it builds without a warning, and its pages work in a browser."""

import contextlib
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


@contextlib.contextmanager
def _tab(width=1280, scheme="light"):
    """A tab of headless Chromium, and the list in which its errors are collected."""
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
        yield tab, faults
        browser.close()


# Pictures below the fold are loaded late; here all are.
BLANK = """async () => (await Promise.all([...document.images].map(image => {
    image.loading = "eager";
    return image.decode().then(() => "", () => image.src);
}))).filter(Boolean)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_work_in_a_browser(site, width, scheme):
    """No error of a script, no image that fails, and nothing wider than the window."""
    with _tab(width, scheme) as (tab, faults):
        for page in _pages(site):
            tab.goto(page.as_uri())
            wide = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            if wide > 0:
                faults.append(f"{page.name}: {wide} pixels wider than a window of {width}")
            faults += [f"{page.name}: {source}" for source in tab.evaluate(BLANK)]
    assert not faults


def test_results_are_sorted_and_filtered(site):
    with _tab() as (tab, faults):
        tab.goto((site / "reproduced" / "README.html").as_uri() + "#mad-loops")
        assert tab.is_visible("#mad-loops img")
        every = tab.locator("#results tbody")
        rows, visible = every.count(), tab.locator("#results tbody:visible")
        assert visible.count() == rows > 100

        tab.select_option("select[name=verdict]", "disagrees")
        disagreeing = visible.count()
        assert 0 < disagreeing < 20
        assert visible.locator(".verdict.disagrees").count() == disagreeing
        assert tab.text_content("#results-count") == f"{disagreeing} of {rows} entries"

        tab.select_option("select[name=verdict]", "")
        tab.fill("input[name=text]", "alemohammad gaussian")
        texts = [text.lower() for text in visible.all_text_contents()]
        assert 0 < len(texts) < rows
        assert all("alemohammad" in text and "gaussian" in text for text in texts)

        tab.fill("input[name=text]", "")
        sizes = []
        for _ in range(2):  # a second click turns the order around
            tab.click("#results th:nth-child(4) button")
            cells = tab.locator("#results tbody tr:first-child td:nth-child(4)").all_text_contents()
            sizes.append([abs(float(cell)) for cell in cells if cell])
            assert all(not cell for cell in cells[len(sizes[-1]) :])  # blanks last
        assert sizes == [sorted(sizes[0]), sorted(sizes[0], reverse=True)]
    assert not faults


QUERIES = {
    "kl_model_to_real": "reference/metrics",
    "Marchenko": "reference/theory",
    "sampling-bias": "",
    "mad-loops": "reference/published/",
    "Polya": "",
}


@pytest.mark.parametrize(("query", "page"), QUERIES.items())
def test_search_finds_pages_without_a_network(site, query, page):
    with _tab() as (tab, faults):
        tab.goto(f"{(site / 'search.html').as_uri()}?q={query}")
        tab.wait_for_selector("#search-results li a", timeout=10_000)
        tab.wait_for_function("!document.querySelector('#search-progress')?.textContent")
        found = tab.eval_on_selector_all("#search-results li a", "all => all.map(a => a.href)")
        assert any(page in link for link in found), found
    assert not faults
