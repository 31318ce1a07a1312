// A model of expressions.mjs as the Python that pynode reads: what the page solves, to go on with in a notebook.
import { netsOf } from "./compile.mjs";

const TAKEN = new Set(
  ("False None True and as assert async await break class continue def del elif else except finally for from global if import in is lambda nonlocal not or pass " +
    "raise return try while with yield np pn f t th state theta").split(" "),
);
const NUMPY = { sin: "np.sin", cos: "np.cos", tan: "np.tan", atan: "np.arctan", exp: "np.exp", log: "np.log", sqrt: "np.sqrt", abs: "np.abs", tanh: "np.tanh",
  sigmoid: "pn.sigmoid", softplus: "pn.softplus", relu: "pn.relu", erf: "pn.erf", min: "np.minimum", max: "np.maximum", where: "np.where" };
const BINDS = { "<": 1, "<=": 1, ">": 1, ">=": 1, "+": 2, "-": 2, "*": 3, "/": 3, negative: 4, "^": 5 };

/** A name that Python takes. */
export const safe = (name) => (TAKEN.has(name) || /^net\d+$/.test(name) ? `${name}_` : name);

function writer(model) {
  const nets = netsOf(model);
  const parameters = new Set(model.parameters.map(({ name }) => name));
  const text = (tree, outside = 0) => {
    const { op, of } = tree;
    if (op === "number") return String(tree.value);
    if (op === "name") return named(tree.name);
    if (op === "net") return `th.net${nets.indexOf(tree)}([${of.map((part) => text(part)).join(", ")}])[0]`;
    if (op === "min" || op === "max") return of.map((part) => text(part)).reduce((x, y) => `${NUMPY[op]}(${x}, ${y})`);
    if (NUMPY[op]) return `${NUMPY[op]}(${of.map((part) => text(part)).join(", ")})`;
    const binds = BINDS[op];
    const written =
      op === "negative" ? `-${text(of[0], 4)}`
      : op === "^" ? `${text(of[0], 6)}**${text(of[1], 4)}`
      : `${text(of[0], binds)} ${op} ${text(of[1], binds + 1)}`;
    return binds < outside ? `(${written})` : written;
  };
  const named = (name) => {
    if (name === "t") return "t";
    if (parameters.has(name)) return `th.${safe(name)}`;
    const known = [...model.states, ...model.definitions].some((one) => one.name === name);
    return known ? safe(name) : `np.${name}`;
  };
  return text;
}

/** A program of Python with the field `f`, its start and a solve until `end`. */
export function pythonOf(model, end) {
  const text = writer(model);
  const theta = [
    ...model.parameters.map(({ name, value }) => `"${safe(name)}": ${value.toString().includes(".") || value.toString().includes("e") ? value : `${value}.0`}`),
    ...netsOf(model).map((tree, k) => `"net${k}": pn.mlp(${tree.of.length}, (${tree.widths.join(", ")},), 1)`),
  ];
  const states = model.states.map(({ name }) => safe(name));
  return [
    "import numpy as np",
    "import pynode as pn",
    "",
    "",
    `@pn.field(state=[${model.states.map(({ name }) => `"${name}"`).join(", ")}], theta={${theta.join(", ")}})`,
    "def f(t, state, th):",
    `    ${states.join(", ")}${states.length === 1 ? "," : ""} = state`,
    ...model.definitions.map(({ name, tree }) => `    ${safe(name)} = ${text(tree)}`),
    `    return [${model.states.map(({ tree }) => text(tree)).join(", ")}]`,
    "",
    "",
    "theta = f.init(0)",
    `y = pn.solve(f, [${model.states.map(({ start }) => start).join(", ")}], np.linspace(0, ${end}, 801), theta, method="auto").y`,
    "",
  ].join("\n");
}
