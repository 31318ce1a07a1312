"""Mistakes that type checkers must report: one that they let pass is an ignore comment without use, which is an error."""

import numpy as np

import pynode as pn

t = np.linspace(0, 1, 11)
f = pn.mlp(2, (8,))
theta = f.init(0)

pn.solv(f, [1.0, 0.0], t, theta)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
pn.fit.adem  # type: ignore[attr-defined]  # noqa: B018  # pyright: ignore
pn.solve(f, [1.0, 0.0], t, theta, methd="rk4")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
pn.solve(f, [1.0, 0.0], t, theta, rtol="small")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
pn.solve(f, [1.0, 0.0], t, theta, save="everything")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
pn.solve(f)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
pn.loss_and_grad(f, [1.0, 0.0], t, theta, adjoint="exact")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
pn.solve(f, [1.0, 0.0], t, theta).statuss  # type: ignore[attr-defined]  # noqa: B018  # pyright: ignore
pn.mlp(2, (8,), hiden=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
pn.NeuralODE(hiden=(8,))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
pn.loss_and_grad(f, [1.0, 0.0], t, theta, methd="rk4")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
pn.Objective(f, [1.0, 0.0], t, methd="rk4")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
pn.check_grad(f, [1.0, 0.0], t, theta, methd="rk4")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
pn.sensitivities(f, [1.0, 0.0], t, theta, methd="rk4")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
