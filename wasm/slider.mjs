// A labelled slider, for pages that make theirs.
import { shown } from "./plot.mjs";

/** At the end of `parent`; `changed(value)` when it is moved. Gives { state: { value }, set }. */
export function addSlider(parent, { name, value, low, high }, changed) {
  const row = document.createElement("label");
  const text = document.createElement("span");
  const range = document.createElement("input");
  const output = document.createElement("output");
  text.textContent = name;
  Object.assign(range, { type: "range", min: low, max: high, step: (high - low) / 500 || 1 });
  range.dataset.name = name;
  const state = { value };
  const set = (x) => {
    state.value = x;
    range.value = x;
    output.textContent = shown(x, 4);
    range.setAttribute("aria-valuetext", output.textContent);
  };
  range.addEventListener("input", () => {
    set(Number(range.value));
    changed(state.value);
  });
  set(value);
  row.append(text, range, output);
  parent.append(row);
  return { state, set };
}
