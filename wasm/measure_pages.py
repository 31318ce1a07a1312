"""Sizes and times of the site's live pages: python wasm/measure_pages.py [NAME ...]

Chromium without a window; "phone" is the processor slowed down four times. Work is time that the page's main thread has a
processor, which a busy machine changes little; the rest is time by the clock. Figures are in docs/browser.md.
"""

import gzip
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "docs")]
import live_pages  # noqa: E402
from browser import Browser  # noqa: E402

SLOWER = 4
SECONDS = 2.0

MOVED = """(async (seconds) => {
  const knob = [...document.querySelectorAll("input[type=range]")].find((e) => e.offsetParent);
  if (!knob) return null;
  const frame = () => new Promise(requestAnimationFrame);
  const [low, high, was] = [Number(knob.min), Number(knob.max), knob.value];
  const begin = performance.now();
  let first = 0;
  let n = 0;
  for (; performance.now() - begin < 1000 * seconds; n++) {
    knob.value = low + (high - low) * (0.5 + 0.4 * Math.sin(0.05 * n));
    knob.dispatchEvent(new Event("input", { bubbles: true }));
    await frame();
    if (!n) {
      await frame();
      first = performance.now() - begin;
    }
  }
  const passed = performance.now() - begin;
  knob.value = was;
  return { first, frames: n, passed };
})(SECONDS)"""

RUN = """(async (seconds) => {
  const button = document.getElementById("run");
  if (!button) return null;
  button.click();
  const begin = performance.now();
  let n = 0;
  while (performance.now() - begin < 1000 * seconds && button.textContent === "Stop") {
    await new Promise(requestAnimationFrame);
    n += 1;
  }
  const passed = performance.now() - begin;
  if (button.textContent === "Stop") button.click();
  return { frames: n, passed };
})(SECONDS)"""


def busy(page):
    """Seconds of the page's main thread until now."""
    return next(one["value"] for one in page.send("Performance.getMetrics")["metrics"] if one["name"] == "TaskDuration")


def measured(browser, path, slower):
    """A page's figures as a dict; None where it has no knob or nothing to run."""
    page = browser.open("about:blank")
    page.send("Performance.enable", timeDomain="threadTicks")
    page.send("Emulation.setCPUThrottlingRate", rate=slower)
    page.send("Page.navigate", url=path.as_uri())
    page.wait("document.documentElement?.dataset.ready")
    found = {"ready": float(page.evaluate("document.documentElement.dataset.ready")), "begin": 1000 * busy(page)}
    page.wait("!document.getElementById('run') || document.getElementById('run').textContent !== 'Stop'", within=120)
    before = busy(page)
    moved = page.evaluate(MOVED.replace("SECONDS", str(SECONDS)))
    if moved:
        found["first"] = moved["first"]
        found["moved"] = 1000 * moved["frames"] / moved["passed"]
        found["work"] = 1000 * (busy(page) - before) / moved["frames"]
    run = page.evaluate(RUN.replace("SECONDS", str(SECONDS)))
    found["run"] = 1000 * run["frames"] / run["passed"] if run and run["frames"] > 20 else None
    page.send("Page.close")
    return found


def row(*cells):
    return "| " + " | ".join(cells) + " |"


def shown(x):
    return "" if x is None else f"{x:.1f}" if x < 10 else f"{x:.0f}"


def main():
    wanted = sys.argv[1:] or live_pages.names()
    with tempfile.TemporaryDirectory() as folder:
        live_pages.build(folder)
        browser = Browser(Path(folder) / "profile")
        print(
            row(
                "page",
                "kB",
                "gzip",
                "work until ready, ms",
                "ready, ms",
                "phone",
                "work a frame, ms",
                "phone: answer, ms",
                "frames/s",
                "run",
            )
        )
        print("|---" * 10 + "|")
        total = 0
        for name in wanted:
            path = Path(folder) / "live" / f"{name}.html"
            data = path.read_bytes()
            total += len(data)
            fast, slow = (measured(browser, path, slower) for slower in (1, SLOWER))
            cells = [
                fast["begin"],
                fast["ready"],
                slow["ready"],
                fast.get("work"),
                slow.get("first"),
                slow.get("moved"),
                slow["run"],
            ]
            packed = len(gzip.compress(data))
            print(row(f"`{name}`", f"{len(data) / 1e3:.0f}", f"{packed / 1e3:.0f}", *map(shown, cells)), flush=True)
        print(f"{len(wanted)} pages, {total / 1e6:.1f} MB")
        browser.close()


if __name__ == "__main__":
    main()
