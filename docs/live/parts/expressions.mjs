// Fields as a reader writes them, one statement a line: x' = v, mu = 2 in [0, 5], x(0) = 1, r = sqrt(x^2 + v^2). Text in, trees out.
// A tree is { op, of: [trees], at, depth } with name, value or widths where op needs them; `at`: { line, column } from 1.

const MOST_CHARACTERS = 4000;
const MOST_STATES = 12;
const MOST_NESTED = 60;
const MOST_DEPTH = 300;
const MOST_UNITS = 64;
export const CONSTANTS = new Map([["pi", Math.PI], ["e", Math.E]]);
/** Name -> how many arguments, at least and at most. */
export const FUNCTIONS = new Map([
  ...["sin", "cos", "tan", "atan", "exp", "log", "sqrt", "abs", "tanh", "sigmoid", "softplus", "relu", "erf"].map((name) => [name, [1, 1]]),
  ["min", [2, 20]], ["max", [2, 20]], ["where", [3, 3]], ["net", [1, 20]],
]);
const KNOWN = () => [...FUNCTIONS.keys()].join(", ");
const TOKEN = /\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z\u0391-\u03c9_][A-Za-z\u0391-\u03c9_0-9]*)|(\*\*|<=|>=|[-+*/^()<>,;=[\]'\u2019]))/y;

/** What is wrong with a text, and where. */
export class ExpressionError extends Error {
  constructor(message, at) {
    super(at ? `Line ${at.line}, column ${at.column}: ${message}` : message);
    this.name = "ExpressionError";
    Object.assign(this, { line: at?.line ?? 1, column: at?.column ?? 1 });
  }
}

/** { kind: "number" | "name" | "sign" | "end", text, at } of a line, the end last. */
function tokens(text, line) {
  const code = text.replace(/#.*/, "").trimEnd();
  const found = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < code.length) {
    const from = TOKEN.lastIndex;
    const match = TOKEN.exec(code);
    if (!match) {
      const column = from + code.slice(from).search(/\S/) + 1;
      throw new ExpressionError(`the character ${[...code.slice(column - 1)][0]} has no meaning here.`, { line, column });
    }
    const [, number, name, sign] = match;
    const value = number ?? name ?? sign;
    const at = { line, column: TOKEN.lastIndex - value.length + 1 };
    found.push({ kind: number ? "number" : name ? "name" : "sign", text: value === "\u2019" ? "'" : value === "**" ? "^" : value, at });
  }
  found.push({ kind: "end", text: "the end of the line", at: { line, column: code.length + 1 } });
  return found;
}

/** Reads the tokens of one line; a method for each level of precedence. */
class Reader {
  constructor(list) {
    Object.assign(this, { list, place: 0, nested: 0 });
  }

  get next() { return this.list[this.place]; }
  is(text) { return this.next.kind === "sign" && this.next.text === text; }
  fail(message, at = this.next.at) { throw new ExpressionError(message, at); }
  take(text) {
    if (!this.is(text)) return null;
    return this.list[this.place++];
  }
  expect(text, why) {
    return this.take(text) ?? this.fail(`${why}, not ${this.next.text}.`);
  }

  node(op, of, at, more = {}) {
    const depth = 1 + Math.max(0, ...of.map((part) => part.depth));
    if (depth > MOST_DEPTH) this.fail(`this is more than ${MOST_DEPTH} operations deep: give a part of it a name on a line of its own.`, at);
    return { op, of, at, depth, ...more };
  }

  deeper(read) {
    if (++this.nested > MOST_NESTED) this.fail(`more than ${MOST_NESTED} levels: give a part of it a name on a line of its own.`);
    const tree = read();
    this.nested -= 1;
    return tree;
  }

  sum() {
    let tree = this.product();
    while (this.is("+") || this.is("-")) {
      const { text, at } = this.list[this.place++];
      tree = this.node(text, [tree, this.product()], at);
    }
    return tree;
  }

  product() {
    let tree = this.signed();
    while (this.is("*") || this.is("/")) {
      const { text, at } = this.list[this.place++];
      tree = this.node(text, [tree, this.signed()], at);
    }
    return tree;
  }

  signed() {
    return this.deeper(() => {
      const minus = this.take("-");
      if (minus) return this.node("negative", [this.signed()], minus.at);
      return this.take("+") ? this.signed() : this.power();
    });
  }

  // -x^2 is -(x^2), 2^-1 is a half, 2^3^2 is 2^9
  power() {
    const base = this.atom();
    const sign = this.take("^");
    return sign ? this.node("^", [base, this.signed()], sign.at) : base;
  }

  atom() {
    const { kind, text, at } = this.next;
    if (kind === "number") return this.number();
    if (this.take("(")) {
      const tree = this.sum();
      if (!this.take(")")) this.fail(`the parenthesis of column ${at.column} is not closed before ${this.next.text}.`);
      return tree;
    }
    if (kind !== "name") this.fail(`here has to be a number, a name or a parenthesis, not ${text}.`);
    this.place += 1;
    if (this.is("'")) this.fail(`${text}' stands only at the beginning of a line; for its value give the right-hand side a name.`);
    if (FUNCTIONS.has(text)) return this.call(text, at);
    if (this.is("(")) this.fail(`${text} is not a function. A product is ${text}*(...); functions are ${KNOWN()}.`, at);
    return this.node("name", [], at, { name: text });
  }

  number() {
    const { text, at } = this.list[this.place++];
    const value = Number(text);
    if (!Number.isFinite(value)) this.fail(`${text} is too large for a number.`, at);
    return this.node("number", [], at, { value });
  }

  call(name, at) {
    if (!this.take("(")) this.fail(`${name} needs parentheses: ${name}(...).`);
    const of = [name === "where" ? this.comparison() : this.sum()];
    while (this.take(",")) of.push(this.sum());
    const widths = name === "net" ? this.widths() : undefined;
    if (this.is("<") || this.is(">") || this.is("<=") || this.is(">=")) this.fail("a comparison stands only first in where(...).");
    this.expect(")", `${name}(...) goes on with a comma or is closed`);
    const [least, most] = FUNCTIONS.get(name);
    if (of.length < least || of.length > most) {
      const wanted = least === most ? least : `${least} to ${most}`;
      this.fail(`${name} takes ${wanted} argument${wanted === 1 ? "" : "s"}, not ${of.length}.`, at);
    }
    return this.node(name, of, at, widths ? { widths } : {});
  }

  comparison() {
    const left = this.sum();
    const sign = this.take("<=") ?? this.take(">=") ?? this.take("<") ?? this.take(">");
    if (!sign) this.fail("where(...) begins with a comparison, such as where(x > 0, 1, 2).");
    return this.node(sign.text, [left, this.sum()], sign.at);
  }

  // "; 8, 8": hidden units of a network
  widths() {
    if (!this.take(";")) this.fail("net(...) ends with its hidden units, such as net(x; 8).");
    const widths = [];
    do {
      const { kind, text, at } = this.next;
      const width = Number(text);
      if (kind !== "number" || !Number.isInteger(width) || width < 1 || width > MOST_UNITS)
        this.fail(`hidden units are a whole number from 1 to ${MOST_UNITS}, not ${text}.`, at);
      this.place += 1;
      widths.push(width);
    } while (widths.length < 3 && this.take(","));
    return widths;
  }

  /** An expression that is the rest of the line. */
  rest() {
    const tree = this.sum();
    this.done();
    return tree;
  }

  done() {
    const { kind, text, at } = this.next;
    if (kind === "end") return;
    const before = this.list[this.place - 1].text;
    if (kind !== "sign" || text === "(") this.fail(`between ${before} and ${text} something is missing; a product is ${before}*${text}.`, at);
    if (text === ")") this.fail("this parenthesis was never opened.", at);
    if ("<>=".includes(text[0])) this.fail("a comparison stands only first in where(...).", at);
    this.fail(`${text} is too much here.`, at);
  }

  signedNumber() {
    const minus = this.take("-");
    if (this.next.kind !== "number") return null;
    const { value } = this.number();
    return minus ? -value : value;
  }
}

/** One line -> { kind: "slope" | "start" | "parameter" | "definition", name, ... }. */
function statement(reader) {
  const { kind, text: name, at } = reader.next;
  if (kind !== "name") reader.fail("a line begins with a name: x' = ..., x(0) = ..., or name = ...");
  if (FUNCTIONS.has(name) || CONSTANTS.has(name) || name === "t") reader.fail(`${name} has its meaning already: take another name.`);
  reader.place += 1;
  if (reader.take("'")) {
    if (reader.is("'")) reader.fail(`a second derivative is two lines: ${name}' = v and v' = ...`);
    reader.expect("=", `after ${name}' comes =`);
    return { kind: "slope", name, at, tree: reader.rest() };
  }
  if (reader.take("(")) {
    const zero = reader.signedNumber();
    if (zero !== 0) reader.fail(`only a start can be given, ${name}(0) = ...`, at);
    reader.expect(")", `${name}(0) is closed`);
    reader.expect("=", `after ${name}(0) comes =`);
    const value = reader.signedNumber();
    if (value === null) reader.fail(`a start is a number, such as ${name}(0) = 1.`);
    reader.done();
    return { kind: "start", name, at, value };
  }
  reader.expect("=", `after ${name} comes = or '`);
  const from = reader.place;
  const value = reader.signedNumber();
  if (value !== null && (reader.next.kind === "end" || reader.next.text === "in")) return { kind: "parameter", name, at, value, ...range(reader, name, value) };
  reader.place = from;
  return { kind: "definition", name, at, tree: reader.rest() };
}

// "in [0, 5]", or what a slider has without it
function range(reader, name, value) {
  if (reader.next.kind === "end") return { low: value > 0 ? 0 : value < 0 ? 3 * value : -1, high: value > 0 ? 3 * value : value < 0 ? 0 : 1 };
  const { at } = reader.list[reader.place++];
  reader.expect("[", "after in comes a range such as [0, 5]");
  const low = reader.signedNumber();
  reader.expect(",", "a range is two numbers with a comma between");
  const high = reader.signedNumber();
  reader.expect("]", "a range ends with ]");
  reader.done();
  if (low === null || high === null || !(low <= value && value <= high && low < high))
    reader.fail(`[${low}, ${high}] is no range with ${name} = ${value} in it.`, at);
  return { low, high };
}

/** Names of a tree in the order in which they are read. */
export function namesOf(tree) {
  return tree.op === "name" ? [tree] : tree.of.flatMap(namesOf);
}

/** A text -> { states: [{ name, tree, start }], definitions: [{ name, tree }], parameters: [{ name, value, low, high }] }.
 * Names without a meaning become parameters. Throws an ExpressionError, nothing else. */
export function parse(text) {
  if (text.length > MOST_CHARACTERS) throw new ExpressionError(`the text has ${text.length} characters; at most ${MOST_CHARACTERS} are read.`);
  const lines = text.split("\n").map((line, i) => tokens(line, i + 1)).filter((list) => list.length > 1);
  const statements = lines.map((list) => statement(new Reader(list)));
  const of = (kind) => statements.filter((one) => one.kind === kind);
  const named = new Map();
  for (const one of statements.filter(({ kind }) => kind !== "start")) {
    const before = named.get(one.name);
    if (before) throw new ExpressionError(`${one.name} is given in line ${before.at.line} already.`, one.at);
    named.set(one.name, one);
  }
  const slopes = of("slope");
  if (!slopes.length) throw new ExpressionError("there has to be an equation, such as x' = -x.");
  if (slopes.length > MOST_STATES) throw new ExpressionError(`more than ${MOST_STATES} equations.`, slopes[MOST_STATES].at);
  const starts = new Map();
  for (const { name, at, value } of of("start")) {
    if (named.get(name)?.kind !== "slope") throw new ExpressionError(`${name}(0) is given, but no line says ${name}' = ...`, at);
    if (starts.has(name)) throw new ExpressionError(`${name}(0) is given twice.`, at);
    starts.set(name, value);
  }
  return {
    states: slopes.map(({ name, tree }) => ({ name, tree, start: starts.get(name) ?? 1 })),
    definitions: of("definition").map(({ name, tree }) => ({ name, tree })),
    parameters: parametersOf(statements, named),
  };
}

function parametersOf(statements, named) {
  const found = new Map();
  for (const { kind, name, value, low, high } of statements) if (kind === "parameter") found.set(name, { name, value, low, high });
  for (const one of statements.filter(({ tree }) => tree))
    for (const { name, at } of namesOf(one.tree)) {
      const meaning = named.get(name);
      if (meaning?.kind === "definition" && one.kind === "definition" && meaning.at.line >= one.at.line)
        throw new ExpressionError(`${name} is used before line ${meaning.at.line} says what it is: change the order.`, at);
      if (!meaning && name !== "t" && !CONSTANTS.has(name) && !found.has(name)) found.set(name, { name, value: 1, low: -3, high: 3 });
    }
  return [...found.values()];
}
