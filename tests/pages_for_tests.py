"""Report pages in tests: the data in them, and a real browser that looks at one."""

import json
import re
import shutil

from playwright.sync_api import expect, sync_playwright

BAD = "<script>document.title='broken'</script><!--"  # what text from outside might hold
POLICY = r"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-[\w+/=]{44}'"


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)[1])


def policy_of(page):
    return re.search(r'Content-Security-Policy" content="(.*?)"', page.read_text())[1]


def browsing():
    """The browser, for a fixture to yield from."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    assert path, "this test opens the report in a browser: install chromium (apt-get install chromium)"
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


class Viewer:
    """A page being looked at; what the console said and what was asked of the network are kept."""

    def __init__(self, browser, page, **settings):
        self.page = browser.new_page(viewport={"width": 1100, "height": 1000}, **settings)
        self.noise, self.requests = [], []
        self.page.on("console", lambda line: self.noise.append(line.text))
        self.page.on("pageerror", lambda error: self.noise.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(page.as_uri())
        expect(self.page.locator("#readout")).to_contain_text("step 0")

    def settle(self):
        """Two frames later everything asked for is drawn."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def texts(self, selector):
        return self.page.locator(selector).all_inner_texts()

    def close(self):
        assert self.noise == []
        assert all(url.startswith(("file:", "data:")) for url in self.requests)
        self.page.close()
