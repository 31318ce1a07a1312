// Trajectories of two states: from text, and what can be said of them before anything is fitted.

const LEAST = 7; // rows of a trajectory: what a slope is estimated from
const MOST = 2000; // rows of all, so that a fit in the page stays quick

/** Numbers of a row, or an Error that says which cell is wrong. */
function numbersOf(cells, row, names) {
  if (cells.length < 3) throw new Error(`Row ${row} has ${cells.length} cells: give t, x, y, and perhaps the trajectory's name.`);
  return names.slice(0, 3).map((name, i) => {
    const value = cells[i] === "" ? NaN : Number(cells[i]);
    if (!Number.isFinite(value)) throw new Error(`Row ${row}: “${cells[i]}” in column ${name} is not a number.`);
    return value;
  });
}

// names of the columns and whether the first row holds them
function heading(first) {
  const named = first.some((cell, i) => i < 3 && cell !== "" && !Number.isFinite(Number(cell)));
  const names = ["t", "x", "y"].map((name, i) => (named && first[i] ? first[i] : name));
  return { named, names };
}

/** Text with columns t, x, y[, trajectory] -> { trajectories: [{ t, y: [[x, y]] }], names: [x, y] }; what is wrong is said by row.
 * Columns are separated by commas, semicolons or tabs; a first row may name them. */
export function parseTrajectories(text) {
  const rows = text.split(/\r?\n/).map((line) => line.trim());
  const used = rows.map((line, i) => ({ line, row: i + 1 })).filter(({ line }) => line && !line.startsWith("#"));
  if (!used.length) throw new Error("There is no row of data: give columns t, x, y, and perhaps a fourth that names the trajectory.");
  const mark = [";", "\t"].find((each) => used[0].line.includes(each)) ?? ",";
  const cells = (line) => line.split(mark).map((cell) => cell.trim().replace(/^"(.*)"$/, "$1"));
  const { named, names } = heading(cells(used[0].line));
  const found = new Map();
  for (const { line, row } of used.slice(named ? 1 : 0)) {
    const parts = cells(line);
    const [t, x, y] = numbersOf(parts, row, names);
    const key = parts[3] ?? "";
    if (!found.has(key)) found.set(key, { t: [], y: [] });
    const one = found.get(key);
    if (one.t.length && t <= one.t.at(-1))
      throw new Error(
        `Row ${row}: time ${t} does not come after ${one.t.at(-1)}. Sort the rows by time, or name the trajectories in a fourth column.`,
      );
    one.t.push(t);
    one.y.push([x, y]);
  }
  const trajectories = [...found.values()];
  found.forEach(({ t }, key) => {
    if (t.length < LEAST) throw new Error(`Trajectory “${key}” has ${t.length} rows: at least ${LEAST} are needed.`);
  });
  if (!trajectories.length) throw new Error("There is a heading, but no row of data below it.");
  const count = trajectories.reduce((sum, { t }) => sum + t.length, 0);
  const thinner = `take one of ${Math.ceil(count / MOST)}`;
  if (count > MOST) throw new Error(`${count} rows are more than the ${MOST} that this page fits quickly: ${thinner}.`);
  return { trajectories, names: names.slice(1) };
}

// the solution of a 3 by 3 system, by elimination with pivots
function solve3(A, b) {
  const M = A.map((row, i) => [...row, b[i]]);
  for (let j = 0; j < 3; j++) {
    let p = j;
    for (let i = j + 1; i < 3; i++) if (Math.abs(M[i][j]) > Math.abs(M[p][j])) p = i;
    [M[j], M[p]] = [M[p], M[j]];
    for (let i = 0; i < 3; i++) {
      if (i === j) continue;
      const factor = M[i][j] / M[j][j];
      for (let k = j; k < 4; k++) M[i][k] -= factor * M[j][k];
    }
  }
  return M.map((row, i) => row[3] / row[i]);
}

/** Value and slope of parabolas through `width` neighbours of each point, and the variance of the noise about them.
 * -> { value, slope: [[x, y]], noise: [sx, sy] } */
export function smoothed({ t, y }, width = LEAST) {
  const n = t.length;
  const value = [];
  const slope = [];
  const sums = [0, 0];
  let degrees = 0;
  for (let i = 0; i < n; i++) {
    const from = Math.min(Math.max(i - (width >> 1), 0), n - width);
    const s = Array.from({ length: width }, (_, k) => t[from + k] - t[i]);
    const scale = Math.max(...s.map(Math.abs));
    const powers = s.map((v) => [1, v / scale, (v / scale) ** 2]);
    const A = [0, 1, 2].map((a) => [0, 1, 2].map((b) => powers.reduce((sum, p) => sum + p[a] * p[b], 0)));
    degrees += 1 - solve3(A, powers[i - from]).reduce((sum, c, a) => sum + c * powers[i - from][a], 0);
    const fits = [0, 1].map((j) => solve3(A, [0, 1, 2].map((a) => powers.reduce((sum, p, k) => sum + p[a] * y[from + k][j], 0))));
    value.push(fits.map((c) => c[0]));
    slope.push(fits.map((c) => c[1] / scale));
    fits.forEach((c, j) => (sums[j] += (y[i][j] - c[0]) ** 2));
  }
  return { value, slope, noise: sums.map((sum) => Math.sqrt(sum / degrees)) };
}
