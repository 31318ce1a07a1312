// Figures on a 2D canvas: axes, lines, bands, points, arrows. Sharp on any screen, light and dark, redrawn when either changes.
// Colours are the custom properties --ink, --soft, --line, --paper and --series-0 ... --series-5 of the page.

const SERIES = 6;
const FONT = "13px system-ui, -apple-system, 'Segoe UI', sans-serif";
const FALLBACK = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9"];

/** Round numbers from low to high, about n of them. */
export function ticks(low, high, n = 5) {
  const span = high - low;
  if (!(span > 0) || !Number.isFinite(span)) return [low];
  const rough = span / n;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((s) => s >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const found = [];
  for (let k = first; k * step <= high + 1e-9 * span; k++) found.push(k * step);
  return found;
}

/** A number as an axis or a label shows it. */
export function shown(x, digits = 3) {
  if (!Number.isFinite(x)) return String(x);
  const size = Math.abs(x);
  if (size !== 0 && (size >= 1e5 || size < 1e-3)) return x.toExponential(Math.max(digits - 2, 0)).replace("e+", "e").replaceAll("-", "\u2212");
  return String(Number(x.toPrecision(digits))).replace("-", "\u2212");
}

/** Lowest and highest finite number of lists, with a margin. */
export function extent(lists, margin = 0.06) {
  let low = Infinity;
  let high = -Infinity;
  for (const list of lists)
    for (const x of list)
      if (Number.isFinite(x)) {
        low = Math.min(low, x);
        high = Math.max(high, x);
      }
  if (low > high) return [0, 1];
  const pad = margin * (high - low) || 0.5 * Math.abs(low) || 0.5;
  return [low - pad, high + pad];
}

export class Plot {
  /** `label`: the figure in words, for those who do not see it. */
  constructor(canvas, { xLabel = "", yLabel = "", label = "", equal = false } = {}) {
    Object.assign(this, { canvas, xLabel, yLabel, equal, content: {}, colors: new Map() });
    this.context = canvas.getContext("2d");
    this.later = oncePerFrame(() => this.redraw());
    canvas.setAttribute("role", "img");
    this.describe(label);
    new ResizeObserver(() => this.redraw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    addEventListener("themechange", () => this.redraw()); // of a page in a frame
  }

  describe(label) {
    this.canvas.setAttribute("aria-label", label);
  }

  /** At once the first time, then once a frame, however often it is called. content: { lines: [{ x, y, color, width, dash }], bands: [{ x, low, high, color }], points: [{ x, y, color, size, open }],
   *  arrows: [{ x, y, dx, dy }], marks: [{ x }], xRange, yRange }; ranges left out are those of what is drawn. */
  draw(content) {
    this.content = content;
    if (this.box) this.later();
    else this.redraw();
  }

  color(index, fallback) {
    const name = typeof index === "number" ? `--series-${index % SERIES}` : `--${index ?? "ink"}`;
    if (!this.colors.has(name)) this.colors.set(name, this.style.getPropertyValue(name).trim());
    return this.colors.get(name) || fallback || (typeof index === "number" ? FALLBACK[index % SERIES] : "#444");
  }

  ranges() {
    if (this.held) return { x: [...this.held.x], y: [...this.held.y] };
    const { lines = [], bands = [], points = [], xRange, yRange } = this.content;
    const all = [...lines, ...points];
    const x = xRange ?? extent([...all, ...bands].map((part) => part.x), this.content.xMargin ?? 0.02);
    const y = yRange ?? extent([...all.map((part) => part.y), ...bands.flatMap((part) => [part.low, part.high])]);
    return { x: [...x], y: [...y] };
  }

  redraw() {
    const { canvas, context } = this;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (!width || !height) return;
    const ratio = globalThis.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = FONT;
    this.style = getComputedStyle(canvas);
    this.colors.clear();
    const { x, y } = this.ranges();
    const yTicks = ticks(y[0], y[1], Math.max(2, Math.floor(height / 60)));
    const widest = (list) => Math.max(...list.map((v) => context.measureText(shown(v, 4)).width));
    const right = width - Math.max(12, 3 + widest(ticks(x[0], x[1], 2)) / 2);
    const box = { left: widest(yTicks) + (this.yLabel ? 32 : 14), right, top: 10, bottom: height - (this.xLabel ? 42 : 24) };
    if (this.equal) widen(x, y, box);
    this.box = box;
    this.toX = (v) => box.left + ((v - x[0]) / (x[1] - x[0])) * (box.right - box.left);
    this.toY = (v) => box.bottom - ((v - y[0]) / (y[1] - y[0])) * (box.bottom - box.top);
    this.fromX = (px) => x[0] + ((px - box.left) / (box.right - box.left)) * (x[1] - x[0]);
    this.fromY = (py) => y[0] + ((box.bottom - py) / (box.bottom - box.top)) * (y[1] - y[0]);
    this.axes(x, this.equal ? ticks(y[0], y[1], Math.max(2, Math.floor(height / 60))) : yTicks, width, height);
    context.save();
    context.beginPath();
    context.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    context.clip();
    this.contents();
    context.restore();
    for (const part of this.content.points ?? []) this.points(part);
  }

  axes(x, yTicks, width, height) {
    const { context, box } = this;
    context.lineWidth = 1;
    context.fillStyle = this.color("soft", "#666");
    context.strokeStyle = this.color("line", "#ddd");
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const v of ticks(x[0], x[1], Math.max(2, Math.floor(width / 90)))) {
      this.stroke([[this.toX(v), box.top], [this.toX(v), box.bottom]]);
      const text = shown(v, 4);
      const half = context.measureText(text).width / 2;
      context.fillText(text, Math.max(half, Math.min(width - half, this.toX(v))), box.bottom + 5);
    }
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const v of yTicks) {
      this.stroke([[box.left, this.toY(v)], [box.right, this.toY(v)]]);
      context.fillText(shown(v, 4), box.left - 6, this.toY(v));
    }
    context.fillStyle = this.color("ink", "#222");
    context.textAlign = "center";
    if (this.xLabel) {
      context.textBaseline = "bottom";
      context.fillText(this.xLabel, (box.left + box.right) / 2, height - 3);
    }
    if (this.yLabel) {
      context.save();
      context.translate(12, (box.top + box.bottom) / 2);
      context.rotate(-Math.PI / 2);
      context.textBaseline = "middle";
      context.fillText(this.yLabel, 0, 0);
      context.restore();
    }
  }

  stroke(points) {
    this.context.beginPath();
    points.forEach(([px, py], i) => (i ? this.context.lineTo(px, py) : this.context.moveTo(px, py)));
    this.context.stroke();
  }

  contents() {
    const { lines = [], bands = [], arrows = [], marks = [] } = this.content;
    this.arrows(arrows);
    for (const band of bands) this.band(band);
    for (const { x } of marks) {
      this.context.strokeStyle = this.color("soft", "#666");
      this.context.setLineDash([2, 3]);
      this.stroke([[this.toX(x), this.box.top], [this.toX(x), this.box.bottom]]);
      this.context.setLineDash([]);
    }
    for (const line of lines) this.line(line);
  }

  line({ x, y, color, width = 2, dash = [] }) {
    const { context } = this;
    context.strokeStyle = this.color(color);
    context.lineWidth = width;
    context.lineJoin = "round";
    context.setLineDash(dash);
    context.beginPath();
    let down = false;
    for (let i = 0; i < x.length; i++) {
      if (Number.isFinite(x[i]) && Number.isFinite(y[i])) {
        if (down) context.lineTo(this.toX(x[i]), this.toY(y[i]));
        else context.moveTo(this.toX(x[i]), this.toY(y[i]));
        down = true;
      } else down = false;
    }
    context.stroke();
    context.setLineDash([]);
  }

  band({ x, low, high, color }) {
    const { context } = this;
    const seen = [...x.keys()].filter((i) => Number.isFinite(low[i]) && Number.isFinite(high[i]));
    context.fillStyle = this.color(color);
    context.globalAlpha = 0.2;
    context.beginPath();
    for (const i of seen) context.lineTo(this.toX(x[i]), this.toY(high[i]));
    for (const i of seen.reverse()) context.lineTo(this.toX(x[i]), this.toY(low[i]));
    context.fill();
    context.globalAlpha = 1;
  }

  // whole ones, on the edge too
  points({ x, y, color, size = 3.5, open = false }) {
    const { context } = this;
    const { left, right, top, bottom } = this.box;
    context.fillStyle = context.strokeStyle = this.color(color);
    context.lineWidth = 1.5;
    context.beginPath();
    for (let i = 0; i < x.length; i++) {
      const [px, py] = [this.toX(x[i]), this.toY(y[i])];
      if (!(px > left - 1 && px < right + 1 && py > top - 1 && py < bottom + 1)) continue;
      context.moveTo(px + size, py);
      context.arc(px, py, size, 0, 2 * Math.PI);
    }
    if (open) context.stroke();
    else context.fill();
  }

  /** Directions, of one length in pixels whatever (dx, dy) is in the units of the axes. */
  arrows(list) {
    const { context } = this;
    context.strokeStyle = this.color("soft", "#888");
    context.globalAlpha = 0.55;
    context.lineWidth = 1;
    context.beginPath();
    for (const { x, y, dx, dy, length = 14 } of list) {
      const [px, py] = [this.toX(x), this.toY(y)];
      const [gx, gy] = [this.toX(x + dx) - px, this.toY(y + dy) - py];
      const size = Math.hypot(gx, gy);
      if (!(size > 0) || !Number.isFinite(size)) continue;
      const [ux, uy] = [(gx / size) * length, (gy / size) * length];
      const [hx, hy] = [px + ux / 2, py + uy / 2];
      context.moveTo(px - ux / 2, py - uy / 2);
      context.lineTo(hx, hy);
      context.moveTo(hx - 0.35 * ux - 0.2 * uy, hy - 0.35 * uy + 0.2 * ux);
      context.lineTo(hx, hy);
      context.lineTo(hx - 0.35 * ux + 0.2 * uy, hy - 0.35 * uy - 0.2 * ux);
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  /** handler(x, y) while the figure is pressed and dragged, in the units of the axes, which stay as they are meanwhile. */
  onDrag(handler) {
    const { canvas } = this;
    let frozen = null;
    const move = (event) => {
      if (!frozen) return;
      const at = canvas.getBoundingClientRect();
      const [px, py] = [event.clientX - at.left, event.clientY - at.top];
      handler(frozen.fromX(px), frozen.fromY(py));
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary || !this.box) return;
      canvas.setPointerCapture(event.pointerId);
      frozen = { fromX: this.fromX, fromY: this.fromY };
      this.held = this.ranges();
      move(event);
    });
    canvas.addEventListener("pointermove", move);
    for (const end of ["pointerup", "pointercancel"])
      canvas.addEventListener(end, () => {
        if (frozen) this.later();
        frozen = this.held = null;
      });
    canvas.style.touchAction = "none";
    canvas.style.cursor = "crosshair";
  }
}

// the same units on both axes
function widen(x, y, box) {
  const perX = (x[1] - x[0]) / (box.right - box.left);
  const perY = (y[1] - y[0]) / (box.bottom - box.top);
  const [range, factor] = perX < perY ? [x, perY / perX] : [y, perX / perY];
  const pad = ((range[1] - range[0]) * (factor - 1)) / 2;
  range[0] -= pad;
  range[1] += pad;
}

/** work() at most once a frame, however often it is asked for; in a tab that is not shown, ten times a second. */
export function oncePerFrame(work) {
  let frame = 0;
  let timer = 0;
  const once = () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    frame = timer = 0;
    work();
  };
  return () => {
    if (timer) return;
    frame = requestAnimationFrame(once);
    timer = setTimeout(once, 100);
  };
}
