"""Chromium without a window or a network, driven over pipes by its DevTools protocol: pages as their readers have them."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", NO_NETWORK)


def command():
    """The browser's command; the test is skipped where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    return found


class Browser:
    """One process of Chromium; `open` gives pages."""

    def __init__(self, profile):
        to_read, self.write = os.pipe()
        self.read, to_write = os.pipe()
        ends = fcntl.fcntl(to_read, fcntl.F_DUPFD, 10), fcntl.fcntl(to_write, fcntl.F_DUPFD, 10)

        def plumb():  # the browser reads from 3 and writes to 4
            for end, number in zip(ends, (3, 4), strict=True):
                os.dup2(end, number)

        self.process = subprocess.Popen(
            [command(), *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"],
            preexec_fn=plumb,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (*ends, to_read, to_write):
            os.close(end)
        self.pending = b""
        self.count = 0
        self.pages = {}

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.write)
        os.close(self.read)

    def message(self, until):
        """The next message, or a TimeoutError."""
        while b"\0" not in self.pending:
            ready, _, _ = select.select([self.read], [], [], max(0.0, until - time.monotonic()))
            chunk = os.read(self.read, 1 << 20) if ready else b""
            if not chunk:
                raise TimeoutError("the browser does not answer" if not ready else "the browser has ended")
            self.pending += chunk
        text, _, self.pending = self.pending.partition(b"\0")
        return json.loads(text)

    def send(self, method, session=None, within=60.0, **params):
        """The result of a command; what pages report meanwhile goes to them."""
        self.count += 1
        call = {"id": self.count, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self.write, json.dumps(call).encode() + b"\0")
        until = time.monotonic() + within
        while True:
            got = self.message(until)
            if got.get("id") == self.count:
                if "error" in got:
                    raise RuntimeError(f"{method}: {got['error']['message']}")
                return got["result"]
            if got.get("sessionId") in self.pages:
                self.pages[got["sessionId"]].note(got)

    def open(self, address, width=1000, height=800, *, phone=False, dark=False, still=False):
        """A page; `phone`: a touch screen of two pixels a point, `still`: its reader asked for reduced motion."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Network"):
            page.send(f"{domain}.enable")
        page.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        page.send("Emulation.setTouchEmulationEnabled", enabled=phone)
        features = {"prefers-color-scheme": "dark" if dark else "light"} | (
            {"prefers-reduced-motion": "reduce"} if still else {}
        )
        page.send("Emulation.setEmulatedMedia", features=[{"name": name, "value": x} for name, x in features.items()])
        page.send("Page.navigate", url=address.as_uri() if isinstance(address, Path) else address)
        page.wait("document.readyState === 'complete'")
        return page


class Page:
    """A tab. `errors`: what its scripts threw, what its console called an error; `requests`: addresses it asked for."""

    def __init__(self, browser, session):
        self.browser, self.session = browser, session
        self.errors, self.requests = [], []

    def note(self, got):
        params = got.get("params", {})
        if got["method"] == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif got["method"] == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.errors.append(" ".join(str(x.get("value", x.get("description"))) for x in params["args"]))
        elif got["method"] == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def send(self, method, **params):
        return self.browser.send(method, self.session, **params)

    def evaluate(self, expression):
        """The value of an expression of JavaScript; a promise is awaited."""
        got = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in got:
            raise RuntimeError(got["exceptionDetails"].get("exception", {}).get("description", expression))
        return got["result"].get("value")

    def wait(self, condition, within=30.0):
        """Until the expression holds; its value."""
        end = time.monotonic() + within
        while not (value := self.evaluate(condition)):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition} does not hold after {within:g} s; errors: {self.errors}")
            time.sleep(0.02)
        return value

    def box(self, selector):
        """Left, top, width, height of an element that has been scrolled into view."""
        found = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{ block: 'center' }});"
            "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
        )
        return found

    def set(self, selector, value):
        """Give a knob a value as its reader would: a select, a range, a box to tick, a text; then a frame passes."""
        self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); const v = {json.dumps(value)};"
            "if (e.type === 'checkbox') e.checked = v; else e.value = v;"
            "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind, { bubbles: true }));"
            "return new Promise((done) => requestAnimationFrame(() => setTimeout(done, 20))); })()"
        )

    def click(self, selector):
        left, top, width, height = self.box(selector)
        self.drag([(left + width / 2, top + height / 2)])

    def drag(self, points):
        """Press at the first point of the window, move over the others, let go at the last."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*points, points[-1]], strict=True):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def drag_within(self, selector, start, end, steps=8):
        """Drag inside an element; places are parts of its width and height, from the upper left."""
        left, top, width, height = self.box(selector)
        parts = [i / steps for i in range(steps + 1)]
        path = [(start[0] + (end[0] - start[0]) * s, start[1] + (end[1] - start[1]) * s) for s in parts]
        self.drag([(left + width * x, top + height * y) for x, y in path])

    def key(self, name, code=None):
        """Press a key: "Tab", "Enter", "ArrowRight", ..."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        number = codes.get(name, 0)
        text = {"text": "\r"} if name == "Enter" else {"text": name} if len(name) == 1 else {}
        self.send(
            "Input.dispatchKeyEvent", type="keyDown", key=name, code=code or name, windowsVirtualKeyCode=number, **text
        )
        self.send("Input.dispatchKeyEvent", type="keyUp", key=name, code=code or name, windowsVirtualKeyCode=number)

    def screenshot(self, path, whole=True):
        """A PNG of the page, or of what its window shows."""
        more = {}
        if whole:
            size = self.send("Page.getLayoutMetrics")["cssContentSize"]
            more = {
                "clip": {**{k: size[k] for k in ("x", "y", "width", "height")}, "scale": 1},
                "captureBeyondViewport": True,
            }
        Path(path).write_bytes(base64.b64decode(self.send("Page.captureScreenshot", **more)["data"]))
