// pynode in a browser: the C core as WebAssembly, with the names of the Python package. See docs/browser.md.
//   import * as pn from "./pynode.mjs";
//   await pn.init();
export { hasSimd, init, memoryBytes, methods } from "./core.mjs";
export { Field, field, mlp, normals } from "./field.mjs";
export { Adam, adam, LevenbergMarquardt, levenbergMarquardt, residualsOf } from "./fit.mjs";
export { Builder, PynodeError } from "./program.mjs";
export { lossAndGrad, sensitivities, solve } from "./solve.mjs";
