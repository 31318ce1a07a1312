"""The site's live pages: complete in themselves, they train in a browser without a network."""

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"

PROBE = """<script type="module">
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const byId = (id) => document.getElementById(id);
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
while (!document.documentElement.dataset.ready && !byId("message").textContent) await pause(20);
async function trained(gradient) {
  byId("gradient").value = gradient;
  byId("gradient").dispatchEvent(new Event("input"));
  const before = Number(document.documentElement.dataset.error);
  byId("run").click();
  while (byId("run").textContent !== "Run") await pause(20);
  const { epochs, error } = document.documentElement.dataset;
  return { epochs: Number(epochs), before, error: Number(error), message: byId("message").textContent };
}
const report = { adjoint: await trained("adjoint"), differences: await trained("differences"), errors };
byId("rate").value = 1;
byId("rate").dispatchEvent(new Event("input"));
byId("run").click();
byId("run").click();
await pause(100);
report.stopped = byId("run").textContent;
document.documentElement.dataset.report = JSON.stringify(report);
</script></body>"""


def test_the_code_lab_trains(tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    build = f"import sys; sys.path.insert(0, {str(DOCS)!r}); import live_pages; live_pages.build({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], check=True)
    page = tmp_path / "live" / "code_lab.html"
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=|@import", re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL))
    page.write_text(text.replace("</body>", PROBE), encoding="utf-8")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=30000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    found = re.search(r'data-report="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    report = json.loads(html.unescape(found[1]))
    assert report["errors"] == []
    for way in ("adjoint", "differences"):
        one = report[way]
        assert one["epochs"] == 120
        assert one["error"] < 0.5 * one["before"]
        assert "finished" in one["message"]
    assert report["differences"]["error"] == pytest.approx(report["adjoint"]["error"], rel=1e-4)
    assert report["stopped"] == "Run"
