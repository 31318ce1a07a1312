// Parses and evaluates fields as the page field_editor does: node expressions.mjs FOLDER, the calls as JSON on standard input.
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const load = (name) => import(pathToFileURL(`${folder}/${name}.mjs`));
const [{ init }, { ExpressionError, parse }, { compile }, { pythonOf }, { PynodeError }] = await Promise.all(
  ["core", "expressions", "compile", "python", "program"].map(load),
);
await init(gunzipSync(readFileSync(`${folder}/pynode.wasm.gz`)));

const shown = (x) => (Number.isFinite(x) ? x : String(x));

/** A text -> its values at a point, or what the parser says. Anything else that is thrown ends the program. */
function answer({ text, t = 0, y, theta }) {
  let model;
  try {
    model = parse(text);
    const f = compile(model);
    try {
      const parameters = theta ?? f.init(1);
      const states = y ?? model.states.map(({ start }) => start);
      return {
        value: Array.from(f.evaluate(t, states, parameters), shown),
        theta: Array.from(parameters),
        names: model.parameters.map(({ name }) => name),
        states: model.states.map(({ name }) => name),
        breaks: f.breaks,
        python: pythonOf(model, 1),
      };
    } finally {
      f.free();
    }
  } catch (error) {
    if (error instanceof ExpressionError) return { error: error.message, line: error.line, column: error.column };
    if (error instanceof PynodeError && model) return { core: error.message };
    throw new Error(`${JSON.stringify(text)}: ${error.stack}`);
  }
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(answer)));
