// Sliders that come and go: for names that a text or a model brings along.
import { addSlider } from "./slider.mjs";

/** No sliders in a fieldset, hidden while it has none, but these rows: [{ name, value, low, high }]; changed(name, value). Gives name -> { set }. */
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
