"""wasm/plot.mjs: no label is cut, a figure is drawn once a frame, its colours are those of the page."""

import pytest

from pynode.export.page import web_file, wrapped

PAGE = """<!doctype html><html style="--ink: #000; --soft: #555; --line: #ddd; --series-0: rgb(10, 200, 30)">
<body style="margin: 0">
<canvas id="figure" style="width: {width}px; height: 200px; display: block"></canvas>
<script type="module">{module}
const {{ Plot, shown }} = module_plot;
window.shown = shown;
window.plot = new Plot(document.getElementById("figure"), {{ xLabel: "x", yLabel: "y" }});
window.texts = [];
const {{ context }} = plot;
const write = context.fillText.bind(context);
context.fillText = (text, x, y) => {{
  texts.push([text, x, context.measureText(text).width, context.textAlign]);
  write(text, x, y);
}};
window.redraws = 0;
const redraw = plot.redraw.bind(plot);
plot.redraw = () => {{ redraws += 1; redraw(); }};
</script></body></html>"""


@pytest.fixture(params=[240, 700])
def page(browser, tmp_path, request):
    path = tmp_path / "plot.html"
    path.write_text(
        PAGE.format(module=wrapped("plot", web_file("plot.mjs").decode()), width=request.param), encoding="utf-8"
    )
    page = browser.open(path)
    page.wait("window.plot !== undefined")
    page.width = request.param
    yield page
    assert page.errors == []
    page.send("Page.close")


def frame(page):
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.mark.parametrize(
    "ranges", [([0, 2000], [0, 1]), ([-1e-7, 1e-7], [-1e6, 1e6]), ([0, 100000], [0, 0.001]), ([3, 3.001], [-5, -4])]
)
def test_no_label_is_cut(page, ranges):
    page.evaluate(f"texts.length = 0; plot.draw({{ lines: [], xRange: {ranges[0]}, yRange: {ranges[1]} }})")
    frame(page)
    ticks = [text for text in page.evaluate("texts") if text[0] not in ("x", "y")]
    assert len(ticks) >= 4
    for text, x, width, align in ticks:
        left = x - width / 2 if align == "center" else x - width
        assert left >= -0.01, text
        assert left + width <= page.width + 0.01, text


def test_one_picture_a_frame(page):
    frame(page)
    page.evaluate("plot.draw({ lines: [] })")
    frame(page)
    page.evaluate("redraws = 0; for (let k = 0; k < 50; k++) plot.draw({ lines: [{ x: [0, 1], y: [k, k], color: 0 }] })")
    frame(page)
    assert page.evaluate("redraws") == 1
    assert page.evaluate("plot.content.lines[0].y[0]") == 49
    page.evaluate("new Promise((done) => setTimeout(done, 150))")
    assert page.evaluate("redraws") == 1


COLOURED = """(() => {{ const {{ width, height }} = plot.canvas; let n = 0;
const d = plot.context.getImageData(0, 0, width, height).data;
for (let i = 0; i < d.length; i += 4) if (d[i] === {0} && d[i + 1] === {1} && d[i + 2] === {2}
  && d[i + 3] === 255) n += 1; return n; }})()"""


DRAWN = """plot.draw({ points: [{ x: [0, 1, NaN, 3], y: [0, 1, 2, 0], color: 0, size: 10 }], xRange: [0, 1], yRange: [0, 1],
  arrows: [{ x: 0, y: 0, dx: 1, dy: 0 }, { x: 0, y: 0, dx: 0, dy: 0 }] })"""
RED = "document.documentElement.style.setProperty('--series-0', 'rgb(200, 0, 0)'); dispatchEvent(new Event('themechange'))"


def test_whole_points_in_the_colours_of_the_page(page):
    page.evaluate(DRAWN)
    frame(page)
    assert 480 < page.evaluate(COLOURED.format(10, 200, 30)) < 2 * 315  # two circles of 314 pixels; the third is outside
    page.evaluate(RED)
    frame(page)
    assert page.evaluate(COLOURED.format(10, 200, 30)) == 0
    assert page.evaluate(COLOURED.format(200, 0, 0)) > 480


def test_numbers(page):
    assert page.evaluate("[0, 1234.5, -0.5, 1e-7, -1.5e6, NaN].map((x) => shown(x))") == [
        "0",
        "1230",
        "\u22120.5",
        "1.0e\u22127",
        "\u22121.5e6",
        "NaN",
    ]
