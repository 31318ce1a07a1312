// The module's memory and its one struct: what goes in, what comes out, and that all of it is freed again.
import { OPERATIONS, PynodeError } from "./program.mjs";

const SIMD_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);

/** Whether this browser has the 128-bit vectors that pynode.wasm needs; without them take pynode-scalar.wasm. */
export function hasSimd() {
  return WebAssembly.validate(SIMD_PROBE);
}

let core = null;
const orphans = typeof FinalizationRegistry === "undefined" ? null : new FinalizationRegistry((free) => free());

function textAt(exports, at) {
  const bytes = new Uint8Array(exports.memory.buffer, at);
  return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
}

async function bytesOf(source) {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return source;
  const url = source ?? new URL(hasSimd() ? "pynode.wasm" : "pynode-scalar.wasm", import.meta.url);
  const answer = await fetch(url);
  if (!answer.ok) throw new PynodeError(`${url}: ${answer.status} ${answer.statusText}`);
  return answer.arrayBuffer();
}

function readMethods(exports) {
  const methods = {};
  const facts = exports.pnw_alloc(16);
  for (let i = 0; ; i++) {
    const name = exports.pnw_method_at(i, facts);
    if (!name) break;
    const [order, errorOrder, implicit, partitioned] = new Int32Array(exports.memory.buffer, facts, 4);
    methods[textAt(exports, name)] = { order, errorOrder, implicit: implicit !== 0, partitioned: partitioned !== 0 };
  }
  exports.pnw_free(facts);
  return methods;
}

/** Load the core, once: its bytes, an address, or nothing for pynode.wasm beside this file. */
export async function init(source) {
  if (core) return;
  const { instance } = await WebAssembly.instantiate(await bytesOf(source), {});
  const { exports } = instance;
  exports._initialize?.();
  const layout = {};
  for (const line of textAt(exports, exports.pnw_layout()).trim().split("\n")) {
    const [name, kind, offset] = line.split(" ");
    layout[name] = { kind, offset: Number(offset) };
  }
  const operations = textAt(exports, exports.pnw_operations()).trim().split("\n").map((line) => line.split(" ")[0]);
  const missing = operations.filter((name) => name !== "CALL" && !OPERATIONS.includes(name));
  if (missing.length) throw new PynodeError(`program.mjs does not know the core's operations ${missing.join(", ")}`);
  core = { exports, layout, operations, methods: readMethods(exports) };
}

export function theCore() {
  if (!core) throw new PynodeError("call `await init()` first: the core is not loaded yet");
  return core;
}

/** Bytes of the module's memory now; it never exceeds 512 MiB, and is not given back to the browser. */
export const memoryBytes = () => theCore().exports.memory.buffer.byteLength;

/** Name -> { order, errorOrder (0: fixed steps only), implicit, partitioned } of every method. */
export const methods = () => theCore().methods;

const message = () => textAt(theCore().exports, theCore().exports.pnw_message());
export const statusName = (status) => textAt(theCore().exports, theCore().exports.pnw_status_name(status));
export const statusText = (status) => textAt(theCore().exports, theCore().exports.pnw_status_text(status));

export function fail(status) {
  const text = message();
  throw new PynodeError(text || statusText(status), statusName(status));
}

// The whole memory as one typed array of each kind, made anew when the memory has grown: views cost more than what they show.
const views = new Map();
function viewOf(Type) {
  const { buffer } = theCore().exports.memory;
  let view = views.get(Type);
  if (!view || view.buffer !== buffer) views.set(Type, (view = new Type(buffer)));
  return view;
}

/** Memory for one call, freed all at once. */
export class Frame {
  constructor() {
    this.taken = [];
  }
  take(bytes) {
    const at = theCore().exports.pnw_alloc(bytes);
    if (!at) throw new PynodeError(`out of memory: ${bytes} bytes more than the ${memoryBytes()} that are taken`, "memory");
    this.taken.push(at);
    return at;
  }
  put(values, Type = Float64Array) {
    const at = this.take(values.length * Type.BYTES_PER_ELEMENT);
    viewOf(Type).set(values, at / Type.BYTES_PER_ELEMENT);
    return at;
  }
  room(length, Type = Float64Array) {
    const size = Type.BYTES_PER_ELEMENT;
    const at = this.take(length * size);
    viewOf(Type).fill(0, at / size, at / size + length);
    return at;
  }
  text(words) {
    return this.put(new TextEncoder().encode(`${words}\0`), Uint8Array);
  }
  /** What the core has allocated for the caller becomes the frame's. */
  keep(at) {
    if (at) this.taken.push(at);
  }
  /** A copy of what lies there. */
  get(at, length, Type = Float64Array) {
    return viewOf(Type).slice(at / Type.BYTES_PER_ELEMENT, at / Type.BYTES_PER_ELEMENT + length);
  }
  free() {
    for (const at of this.taken) theCore().exports.pnw_free(at);
    this.taken = [];
  }
}

export function framed(work) {
  const frame = new Frame();
  try {
    return work(frame);
  } finally {
    frame.free();
  }
}

/** The struct of a solve with these members, at its address. */
function solveArguments(frame, members) {
  const { exports, layout } = theCore();
  const at = frame.room(exports.pnw_layout_size(), Uint8Array);
  const view = new DataView(exports.memory.buffer);
  for (const [name, value] of Object.entries(members)) {
    const { kind, offset } = layout[name];
    if (kind === "d") view.setFloat64(at + offset, value, true);
    else view.setInt32(at + offset, value, true);
  }
  return at;
}

function solveStruct(at) {
  const status = theCore().exports.pnw_solve(at);
  if (status !== 0) fail(status);
}

/** A solve of these members. With options.steps also call.steps: of each sample the start and the ends of its accepted steps. */
export function solveCall(frame, call, { steps }) {
  const { n, nTimes, times, each } = call.batch;
  if (!steps) return solveStruct(solveArguments(frame, call.members));
  call.members.steps = frame.room(4 * n, Int32Array);
  let lists = [];
  try {
    solveStruct(solveArguments(frame, call.members));
  } finally {
    lists = frame.get(call.members.steps, 4 * n, Int32Array);
    for (let i = 0; i < n; i++) frame.keep(lists[4 * i + 2]);
  }
  call.steps = Array.from({ length: n }, (_, i) => {
    const count = lists[4 * i];
    const record = frame.get(lists[4 * i + 2], 2 * count); // t and h of each step
    const ends = Array.from({ length: count }, (_, k) => (k + 1 < count ? record[2 * k + 2] : record[2 * k] + record[2 * k + 1]));
    return Float64Array.from([times[each ? i * nTimes : 0], ...ends]);
  });
}

export function tableau(frame, name) {
  const { exports, methods: known } = theCore();
  if (!Object.hasOwn(known, name)) throw new PynodeError(`method=${name} is not one of ${Object.keys(known).join(", ")}, auto`);
  return exports.pnw_method(frame.text(name));
}

/** A program of the core, freed with `free()` or when nobody holds it any more. */
export class CoreProgram {
  constructor(program) {
    const { exports, operations } = theCore();
    const consts = [];
    const index = [];
    const code = new Int32Array(8 * program.instructions.length);
    program.instructions.forEach((ins, i) => {
      let p = ins.p;
      if (ins.values) p = consts.push(...ins.values) - ins.values.length;
      if (ins.index) p = index.push(...ins.index) - ins.index.length;
      const [a = -1, b = -1, c = -1] = ins.operands;
      code.set([operations.indexOf(ins.op), ins.out, a, b, c, p, ins.q, ins.k ?? 0], 8 * i);
    });
    this.at = framed((frame) => {
      const { sizes, outputs, nTheta, nGrad, segments, nSlots } = program;
      const counts = [sizes, program.instructions, consts, index, outputs, nTheta, nGrad].map((list) => list.length);
      const lists = [
        ...[sizes, code].map((list) => frame.put(list, Int32Array)), frame.put(consts),
        ...[index, outputs, nTheta, nGrad].map((list) => frame.put(list, Int32Array)),
      ];
      const header = [counts[0], nSlots, ...counts.slice(1), segments[0], segments[1], segments[2]];
      return exports.pnw_program(frame.put([...header, ...lists], Int32Array));
    });
    if (!this.at) throw new PynodeError(message(), "BAD_PROGRAM");
    orphans?.register(this, CoreProgram.freer(exports, this.at), this);
  }
  static freer(exports, at) {
    return () => exports.pnw_program_free(at);
  }
  free() {
    if (!this.at) return;
    orphans?.unregister(this);
    theCore().exports.pnw_program_free(this.at);
    this.at = 0;
  }
}

/** The outputs of a program for n samples, row by row, `sizes` numbers altogether; slots are lists of numbers. */
export function evaluate(program, slots, theta, sizes, n = 1) {
  return framed((frame) => {
    const at = slots.map((slot) => (slot.length ? frame.put(slot) : 0));
    const outputs = sizes.map((size) => (size ? frame.room(size) : 0));
    const status = theCore().exports.pnw_evaluate(
      program.at, n, frame.put(at, Int32Array), frame.put([frame.put(theta)], Int32Array),
      frame.put(outputs, Int32Array), frame.room(2, Int32Array),
    );
    if (status !== 0) throw new PynodeError(statusText(status), statusName(status));
    return sizes.map((size, i) => (size ? frame.get(outputs[i], size) : null));
  });
}

/** The bytes of a core that a page holds, compressed by gzip, as base64. */
export async function unpacked(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length); // a loop: Uint8Array.from(text, ...) takes three times as long
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
