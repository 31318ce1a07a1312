/** pynode in a browser: the C core as WebAssembly, with the names of the Python package. See docs/browser.md. */

/** Numbers, in lists or typed arrays. */
export type Numbers = ArrayLike<number>;
/** One sample (d), a batch (B, d), or row by row. */
export type Rows = Numbers | readonly Numbers[];

/** What is wrong with an argument or a solve, in the core's own words. */
export class PynodeError extends Error {
  constructor(message: string, status?: string);
  /** "MAX_STEPS", "NON_FINITE", "BAD_PROGRAM", ...; "" where the module itself says it. */
  status: string;
}

/** Whether this browser has the vectors that pynode.wasm needs; without them take pynode-scalar.wasm. */
export function hasSimd(): boolean;
/** Load the core, once: its bytes, an address, or nothing for pynode.wasm beside the module. */
export function init(source?: BufferSource | URL | string): Promise<void>;
/** Bytes of the module's memory now, at most 512 MiB. */
export function memoryBytes(): number;
export interface MethodFacts {
  order: number;
  /** 0: fixed steps only. */
  errorOrder: number;
  implicit: boolean;
  partitioned: boolean;
}
export function methods(): Record<string, MethodFacts>;

export interface Parameter {
  name: string;
  shape: number[];
  offset: number;
  init: [string, unknown];
}
/** A program as plain data, see docs/program.md; the core checks it. */
export interface Program {
  sizes: number[];
  nSlots: number;
  instructions: object[];
  outputs: number[];
  nTheta: number[];
  nGrad: number[];
  segments: number[];
}

export class Field {
  constructor(program: Program, about?: { name?: string; spec?: Parameter[]; states?: string[]; breaks?: [number, number][] });
  /** From the text that `field.to_json()` gives in Python. */
  static fromJSON(text: string | object, more?: { breaks?: [number, number][] }): Field;
  readonly name: string;
  readonly spec: Parameter[];
  readonly states: string[];
  readonly program: Program;
  readonly d: number;
  readonly inputs: number;
  readonly nParams: number;
  evaluate(t: number, y: Numbers, theta?: Numbers, u?: Numbers): Float64Array;
  /** Values (n, nOut) at n states (n, d), row by row, all at one time. */
  evaluateMany(t: number, y: Numbers, theta?: Numbers): Float64Array;
  /** Initial parameters; the distribution is Python's, the numbers are not. */
  init(seed?: number): Float64Array;
  /** Free what the core holds; otherwise that happens when the field is collected. */
  free(): void;
}
export type Activation = "tanh" | "sigmoid" | "softplus" | "relu" | "silu" | "sin" | "identity";
export function mlp(
  dIn: number, hidden: number | number[], dOut?: number, activation?: Activation,
  options?: { time?: boolean; inputs?: number; gain?: number },
): Field;
/** A field written with a Builder: registers in, a register out. */
export function field(
  about: { state: number; inputs?: number; theta?: Record<string, number | number[]>; name?: string; states?: string[] },
  write: (b: Builder, t: number, y: number, u: number, theta: (name: string) => number) => number,
): Field;
/** Normal numbers, the same in every browser. */
export function normals(seed: number, n: number): number[];

/** Writes programs: each method writes an instruction and gives its register. */
export class Builder {
  constructor(slotSizes: number[], nTheta?: number, nGrad?: number | null);
  const(values: Numbers): number;
  full(size: number, value: number): number;
  param(p: number, size: number): number;
  /** An elementwise operation out of docs/program.md, such as "SIN"; operands of size 1 are broadcast. */
  same(op: string, ...x: number[]): number;
  add(a: number, b: number): number;
  sub(a: number, b: number): number;
  mul(a: number, b: number): number;
  div(a: number, b: number): number;
  pow(a: number, b: number): number;
  neg(a: number): number;
  where(mask: number, a: number, b: number): number;
  scale(factor: number, a: number): number;
  broadcast(x: number, size: number): number;
  sum(x: number): number;
  affine(x: number, m: number, p: number, q?: number): number;
  matvec(A: number, x: number): number;
  matvecT(A: number, x: number): number;
  outer(x: number, y: number): number;
  concat(first: number, ...rest: number[]): number;
  slice(x: number, start: number, size: number, step?: number): number;
  gather(x: number, index: number[]): number;
  scatter(x: number, index: number[], size: number): number;
  finish(outputs: (number | null)[], forward?: number): Program;
}

export interface SolveOptions {
  /** A name out of methods(), or "auto"; default "dopri5". */
  method?: string;
  rtol?: number;
  atol?: number | Numbers;
  /** A fixed step. */
  step?: number;
  save?: "interpolate" | "land";
  maxSteps?: number;
  firstStep?: number;
  maxStep?: number;
  inputs?: { kind?: "constant" | "previous" | "linear"; t?: Numbers; u: Rows };
  /** Of a Rosenbrock method: (d, d), or the diagonal (d). */
  mass?: Rows;
  /** "raise" (default): a PynodeError if a sample fails; "ignore": look at `status`. */
  errors?: "raise" | "ignore";
  /** Bytes for the tape of a gradient. */
  memory?: number;
  /** true: `steps` of the result. */
  steps?: boolean;
}
export interface EventOptions extends SolveOptions {
  event?: { field: Field; direction?: number | number[]; theta?: Numbers };
}
export interface Solution {
  t: Float64Array;
  /** Row by row, of `shape`: (T, d) or (B, T, d). */
  y: Float64Array;
  shape: number[];
  /** "OK" or why each sample stopped: "MAX_STEPS", "STEP_TOO_SMALL", "NON_FINITE", "BAD_INPUT". */
  status: string[];
  stopT: Float64Array;
  nfe: number[];
  accepted: number[];
  rejected: number[];
  /** With the option `steps`: the start and the ends of the accepted steps, of each sample. */
  steps?: Float64Array[];
  /** With an event: which one ended each sample (-1: none), and the states there. */
  eventWhich?: number[];
  eventY?: number[][];
}
export function solve(f: Field, y0: Rows, t: Rows, theta?: Rows, options?: EventOptions): Solution;

export interface LossOptions extends SolveOptions {
  loss?: "mse" | "sse" | "mae" | "huber" | "student";
  weight?: Rows;
  lossScale?: number;
  lossDof?: number;
  wrt?: "theta" | "y0" | "t" | ("theta" | "y0" | "t")[];
}
export interface LossAndGrad extends Solution {
  loss: number;
  grad: Float64Array;
  gradY0: Float64Array;
  gradT: Float64Array | null;
}
export function lossAndGrad(f: Field, y0: Rows, t: Rows, theta: Rows, target: Rows | readonly Rows[], options?: LossOptions): LossAndGrad;

export interface Sensitivities extends Solution {
  /** (.., d, p) row by row. */
  theta: Float64Array;
  /** (.., d, d) row by row. */
  y0: Float64Array;
}
export function sensitivities(f: Field, y0: Rows, t: Rows, theta?: Rows, options?: SolveOptions): Sensitivities;

export interface Iteration {
  iteration: number;
  loss: number;
  theta: Float64Array;
}
export interface Rates {
  learningRate?: number;
  beta1?: number;
  beta2?: number;
  eps?: number;
}
/** One step at a time, for pages that draw between steps. */
export class Adam {
  constructor(theta0: Numbers, rates?: Rates);
  theta: Float64Array;
  step(gradient: Numbers, learningRate?: number): Float64Array;
}
export function adam(
  objective: (theta: Float64Array) => { loss: number; grad: Numbers }, theta0: Numbers,
  options?: Rates & { maxIter?: number; schedule?: "cosine" | "constant"; callback?: (now: Iteration) => boolean | void },
): { theta: Float64Array; loss: number; losses: number[] };
/** One iteration at a time, for pages that draw between them. */
export class LevenbergMarquardt {
  constructor(
    residuals: (theta: Float64Array) => { r: Float64Array; J: Float64Array }, theta0: Numbers,
    options?: { tol?: number; damping?: number },
  );
  theta: Float64Array;
  /** |r|^2. */
  loss: number;
  losses: number[];
  /** true: more iterations may lower the loss further. */
  step(): boolean;
}
export function levenbergMarquardt(
  residuals: (theta: Float64Array) => { r: Float64Array; J: Float64Array }, theta0: Numbers,
  options?: { maxIter?: number; tol?: number; damping?: number; callback?: (now: Iteration) => boolean | void },
): { theta: Float64Array; loss: number; losses: number[]; status: "finished" | "stopped" };
/** The residuals of a solve against data (NaN: not observed), with their Jacobian. */
export function residualsOf(
  f: Field, y0: Rows, t: Rows, target: Rows | readonly Rows[], options?: SolveOptions,
): (theta: Float64Array) => { r: Float64Array; J: Float64Array };
