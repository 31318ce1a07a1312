// What live pages share: knobs, buttons, frames, the start. A page names its elements in NAME.html and calls `begin` last.
import { init, unpacked } from "./core.mjs";
import { oncePerFrame, shown } from "./plot.mjs";

const FRAME_MS = 8; // of work between two pictures: half of a frame at 60 a second
export const byId = (id) => document.getElementById(id);

/** The reader asked for reduced motion: show results, not how they come about. */
export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** In words, for all readers: the page's #message. */
export function say(text) {
  byId("message").textContent = text;
}

/** Values of knobs by id; texts: id -> function(value) of what its <output id="ID-value"> says (default: the number).
 * `changed(values, id)` is called when one is moved, at most once a frame. */
export function knobs(ids, changed, texts = {}) {
  const value = (id) => {
    const { type, checked, value } = byId(id);
    return type === "checkbox" ? checked : type === "range" || type === "number" ? Number(value) : value;
  };
  const read = () => Object.fromEntries(ids.map((id) => [id, value(id)]));
  const write = () => {
    for (const id of ids) {
      const output = byId(`${id}-value`);
      if (!output) continue;
      output.textContent = (texts[id] ?? shown)(value(id));
      byId(id).setAttribute("aria-valuetext", output.textContent);
    }
  };
  let last = "";
  const tell = oncePerFrame(() => changed(read(), last));
  for (const id of ids)
    byId(id).addEventListener("input", () => {
      last = id;
      write();
      tell();
    });
  write();
  return {
    read,
    set(id, x) {
      if (byId(id).type === "checkbox") byId(id).checked = x;
      else byId(id).value = x;
      write();
    },
  };
}

/** Work in pieces between pictures. step() -> true: there is more. draw() after each frame's work. A button shows `label`, and Stop
 * while it works. frameMs: milliseconds of work between two pictures; 0: one step. */
export class Runner {
  constructor(button, { step, draw, start, label = "Run", frameMs = FRAME_MS }) {
    Object.assign(this, { button: byId(button), step, draw, label, frameMs, running: false, frames: 0, spent: 0 });
    this.button.addEventListener("click", () => {
      if (!this.running) {
        start?.();
        return this.run();
      }
      this.stop();
      draw();
    });
  }

  run() {
    if (this.running) return;
    this.running = true;
    this.frames = this.spent = this.done = 0;
    this.began = performance.now();
    this.button.textContent = "Stop";
    const frame = () => {
      if (!this.running) return;
      const begin = performance.now();
      let more = true;
      try {
        do {
          more = this.step();
          this.done += 1;
        } while (more && this.running && performance.now() - begin < this.frameMs);
      } catch (error) {
        this.failed = error.message;
        more = false;
      }
      this.spent += performance.now() - begin;
      this.frames += 1;
      if (!more) this.stop();
      this.draw();
      if (this.failed) say(this.failed);
      this.failed = null;
      if (this.running) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  stop() {
    if (this.running) document.documentElement.dataset.fps = Math.round((1000 * this.frames) / (performance.now() - this.began));
    this.running = false;
    this.button.textContent = this.label;
  }
}

/** Load the core that is in the page, then setup(). A page is ready when <html data-ready> says so. */
export async function begin(setup) {
  try {
    await init(await unpacked(byId("core").textContent));
  } catch (error) {
    say(`This browser cannot run the core: ${error.message}`);
    return;
  }
  await setup();
  document.documentElement.dataset.ready = Math.round(performance.now());
}
