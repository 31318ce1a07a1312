// What pages report: tables of numbers, columns of a solution, figures that tests read.
import { byId } from "./live.mjs";

/** State i of a solution with d states, at all times. */
export const column = (y, d, i) => Array.from({ length: y.length / d }, (_, k) => y[k * d + i]);

/** n + 1 equidistant numbers from `low` to `high`, both exact. */
export const grid = (low, high, n) => Array.from({ length: n + 1 }, (_, k) => (k === n ? high : low + ((high - low) * k) / n));

/** The rows of a table's body; the first cell of a row is its heading. */
export function fillTable(id, rows) {
  const body = byId(id);
  body.replaceChildren(
    ...rows.map((cells) => {
      const row = document.createElement("tr");
      cells.forEach((text, i) => {
        const cell = document.createElement(i ? "td" : "th");
        if (!i) cell.scope = "row";
        cell.textContent = text;
        row.append(cell);
      });
      return row;
    }),
  );
}

/** Numbers of the page for those who read its data attributes, in full precision. */
export function publish(values) {
  Object.assign(document.documentElement.dataset, values);
}
