// Sliders that come and go: for names that a text or a model brings along.
import { shown } from "./plot.mjs";

/** A labelled slider at the end of `parent`, a fieldset that is hidden while it has none; `changed(value)` when it is moved. */
export function addSlider(parent, { name, value, low, high }, changed) {
  const row = document.createElement("label");
  const text = document.createElement("span");
  const range = document.createElement("input");
  const output = document.createElement("output");
  text.textContent = name;
  Object.assign(range, { type: "range", min: low, max: high, step: (high - low) / 500 || 1 });
  range.dataset.name = name;
  const set = (x) => {
    range.value = x;
    output.textContent = shown(x);
    range.setAttribute("aria-valuetext", output.textContent);
  };
  range.addEventListener("input", () => {
    set(Number(range.value));
    changed(Number(range.value));
  });
  set(value);
  row.append(text, range, output);
  parent.append(row);
  return { set };
}

/** No sliders but these rows: [{ name, value, low, high }]; changed(name, value). Gives name -> { set }. */
export function setSliders(parent, rows, changed) {
  for (const old of parent.querySelectorAll("label")) old.remove();
  parent.hidden = rows.length === 0;
  return new Map(rows.map((row) => [row.name, addSlider(parent, row, (value) => changed(row.name, value))]));
}

/** The choices of a <select>; what was chosen stays where it is still there. */
export function setChoices(select, choices, chosen = select.value) {
  select.replaceChildren(...choices.map(([value, text]) => Object.assign(document.createElement("option"), { value, textContent: text })));
  select.value = choices.some(([value]) => value === chosen) ? chosen : (choices[0]?.[0] ?? "");
}
