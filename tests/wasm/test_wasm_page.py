"""Pages of `export_html`: complete in themselves; in a browser without a network they draw, and sliders move that."""

import html as html_module
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

import pynode as pn
from pynode.export.page import bundle, html

PROBE = """
<script type="module">
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const pixels = (id) => {
  const canvas = document.getElementById(id);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let painted = 0, sum = 0;
  for (let i = 0; i < data.length; i += 4) {
    painted += data[i + 3] > 0;
    sum = (sum * 31 + data[i] + data[i + 1] * 3 + data[i + 2] * 7 + data[i + 3] * 11) % 1000000007;
  }
  return { painted, sum };
};
const report = { errors: [] };
addEventListener("error", (event) => report.errors.push(event.message));
while (!document.documentElement.dataset.drawn && !document.getElementById("message").textContent) await pause(20);
await pause(200);
const both = () => ({ time: pixels("over-time"), phase: pixels("phase") });
report.before = both();
const range = document.querySelector("input[data-name=SLIDER]");
range.value = Number(range.max);
const drawn = document.documentElement.dataset.drawn;
range.dispatchEvent(new Event("input", { bubbles: true }));
while (document.documentElement.dataset.drawn === drawn) await pause(20);
await pause(200);
report.after = both();
report.message = document.getElementById("message").textContent;
report.label = document.getElementById("over-time").getAttribute("aria-label");
report.rows = document.querySelectorAll("#table tr").length;
report.last = [...document.querySelectorAll("#table tr:last-child td")].map((cell) => cell.textContent);
document.documentElement.dataset.report = JSON.stringify(report);
</script>
"""

VIRTUAL_TIME = "--virtual-time-budget=1000000"
"""Of the browser, in ms. It passes with each pause of the probe, also while WebAssembly is compiled beside: on a busy
machine thousands of pauses go by until then. Once nothing waits, the rest of it is skipped."""


@pytest.fixture(scope="module")
def chromium():
    command = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if command is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    return command


@pytest.fixture
def look(chromium, tmp_path):
    """look(page, slider) -> what the probe reports, the network being off."""

    def look(page, slider, size="1000,800"):
        path = tmp_path / "page.html"
        path.write_text(page.replace("</body>", PROBE.replace("SLIDER", slider) + "</body>"))
        command = [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size={size}", VIRTUAL_TIME, "--dump-dom"),
        ]
        done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120)
        found = re.search(r'data-report="([^"]*)"', done.stdout)
        assert found, done.stderr[-2000:]
        return json.loads(html_module.unescape(found.group(1)))

    return look


@pytest.fixture(scope="module")
def lotka():
    @pn.field(state=["prey", "hunters"], theta={"a": 1.1, "b": 0.4, "c": 0.4, "d": 0.1})
    def lotka(t, y, th):
        return [th.a * y[0] - th.b * y[0] * y[1], -th.c * y[1] + th.d * y[0] * y[1]]

    return lotka


def drawn(report):
    assert report["errors"] == []
    assert report["message"] == ""
    for figure in ("time", "phase"):
        assert report["before"][figure]["painted"] > 1000
        assert report["before"][figure]["sum"] != report["after"][figure]["sum"]


def test_a_field_is_drawn_and_moves(look, lotka):
    page = html(lotka, lotka.init(), y0=[5.0, 2.0], t=(0.0, 10.0), ranges={"a": (0.5, 1.5)}, title="a < b")
    report = look(page, "a")
    drawn(report)
    want = pn.solve(lotka, [5.0, 2.0], [0.0, 10.0], [1.5, 0.4, 0.4, 0.1]).y[-1]
    np.testing.assert_allclose([float(x) for x in report["last"]], [10.0, *want], rtol=1e-3)
    assert report["rows"] == 12
    assert "prey goes from 5" in report["label"]


def test_a_fitted_network_is_drawn_with_bands(look, lotka):
    t = np.linspace(0.0, 10.0, 40)
    noise = 0.02 * np.random.default_rng(0).standard_normal((40, 2))
    y = pn.solve(lotka, [5.0, 2.0], t, lotka.init()).y + noise
    model = pn.NeuralODE(hidden=(6,), structure="network", random_state=0).fit(t, y)
    page = model.export_html(draws=10)
    report = look(page, "y1", "390,800")
    drawn(report)
    top = json.loads(re.search(r'id="model">(.*?)</script>', page).group(1))["states"][0]["high"]
    want = model.predict(t, np.array([top, model.initial_states_[0, 1]]))[-1]
    shown = [float(cell.split(" ")[0].replace("\u2212", "-")) for cell in report["last"][1:]]
    np.testing.assert_allclose(shown, want, rtol=2e-3)
    assert "90 % band" in report["label"]


def test_a_page_is_complete_in_itself(lotka):
    page = html(lotka, lotka.init(), y0=[5.0, 2.0], t=(0.0, 10.0), title="a < b")
    assert not re.search(r"(src|href)=|https?://", page)
    assert "<title>a &lt; b</title>" in page
    assert len(page) < 400_000


def test_the_bundle_has_no_imports():
    assert not re.search(r"^(import|export) ", bundle(), flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"y0": [1.0]}, "y0 has shape"),
        ({"t": (1.0, 0.0)}, "a later time"),
        ({"draws": np.ones((3, 2))}, "draws has shape"),
        ({"ranges": {"z": (0, 1)}}, "ranges names 'z'"),
        ({"ranges": {"a": (2.0, 3.0)}}, "does not contain"),
    ],
)
def test_what_is_wrong_is_said(lotka, change, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        html(lotka, lotka.init(), **{"y0": [5.0, 2.0], "t": (0.0, 10.0), **change})


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # four times the same trajectory
def test_doses_and_ensembles_are_refused(lotka):
    t = np.linspace(0.0, 5.0, 20)
    y = pn.solve(lotka, [5.0, 2.0], t, lotka.init()).y
    ensemble = pn.NeuralODE(hidden=(4,), random_state=0, n_estimators=2).fit([t] * 4, [y] * 4)
    with pytest.raises(ValueError, match="ensemble"):
        ensemble.export_html()
    with pytest.raises(ValueError, match="draws"):
        ensemble.estimators_[0].export_html(draws=-1)
