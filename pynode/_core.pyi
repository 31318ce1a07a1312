"""The C core; use the functions of pynode instead. The arrays: csrc/pynode.h, docs/program.md."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypedDict, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Float = NDArray[np.float64] | NDArray[np.float32]
_Callback = Callable[
    [int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64] | None],
    ArrayLike,
]

class _Op(TypedDict):
    code: int
    shape: str
    operands: int

class _Tableau(TypedDict):
    name: str
    order: int
    error_order: int
    s: int
    n_extra: int
    error_uses_new: bool
    dense_degree: int
    dense_order: int
    dense_uses_new: bool
    has_e2: bool
    c: NDArray[np.float64]
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    e: NDArray[np.float64]
    e2: NDArray[np.float64]
    dense: NDArray[np.float64]
    source: str
    second: _Tableau | None

OPS: dict[str, _Op]
STATUS: list[tuple[str, str]]
ISAS: tuple[str, ...]
"""Instruction sets that this processor has and the core was built for."""

def isa() -> str: ...
def set_isa(name: str, /) -> None: ...
def num_threads() -> int: ...
def set_num_threads(n: int, /) -> None: ...
def tableaus() -> list[_Tableau]: ...
def xla_handlers(minor: int, /) -> dict[str, Any]: ...
def evaluate(
    program: Program,
    slots: Sequence[ArrayLike | None],
    thetas: Sequence[ArrayLike],
    /,
    callback: _Callback | None = None,
) -> tuple[list[Any], list[NDArray[np.float64]]]: ...
def evaluate_row(
    program: Program, slots: tuple[Any, ...], thetas: tuple[Any, ...], /
) -> tuple[list[Any], list[NDArray[np.float64]]] | None: ...

@final
class Program:
    def __new__(
        cls,
        sizes: ArrayLike,
        n_slots: int,
        code: ArrayLike,
        consts: ArrayLike,
        index: ArrayLike,
        outputs: ArrayLike,
        n_theta: ArrayLike,
        n_grad: ArrayLike,
        segments: ArrayLike,
        fuse: bool = True,
    ) -> Program: ...
    @property
    def slot_sizes(self) -> tuple[int, ...]: ...
    @property
    def output_sizes(self) -> tuple[int, ...]: ...
    @property
    def n_theta(self) -> tuple[int, ...]: ...
    @property
    def n_grad(self) -> tuple[int, ...]: ...
    @property
    def has_call(self) -> bool: ...

@final
class Tableau:
    # csrc/method/tableau.h; S = s + 1 + n_extra stages. Flags and sizes follow from the arrays
    def __new__(
        cls,
        name: str,
        *,
        order: int,
        error_order: int = 0,
        c: ArrayLike,  # (S)
        a: ArrayLike,  # (S, S)
        b: ArrayLike,  # (s)
        e: ArrayLike | None = None,  # (S)
        e2: ArrayLike | None = None,
        dense: ArrayLike,  # (S, degree + 1)
        dense_order: int,
        second: Tableau | None = None,  # of the second half of the state
        source: str | None = "",
    ) -> Tableau: ...
    @property
    def name(self) -> str: ...
    @property
    def second(self) -> Tableau | None: ...
    def row(self) -> _Tableau: ...

@final
class Results:
    def __new__(cls, results: dict[str, Any], /) -> Results: ...
    def __getitem__(self, name: str, /) -> Any: ...
    def __setitem__(self, name: str, value: Any, /) -> None: ...
    def __delitem__(self, name: str, /) -> None: ...
    def __contains__(self, name: object, /) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def keys(self) -> list[str]: ...
    def get(self, name: str, default: Any = None, /) -> Any: ...

@final
class Tape:
    def __new__(cls) -> Tape: ...
    def clear(self) -> None: ...  # the arrays of the run that filled it; its own memory stays

@final
class XlaCall:
    def __new__(
        cls,
        number: int,
        prepare: Callable[[Any, Any, Any, Any], Problem],
        again: Callable[[Any, Any, Any, Any], object],
        ignores: bool = False,
        of_tangents: bool = False,
    ) -> XlaCall: ...

@final
class Problem:
    # None and leaving an argument out are the same
    def __new__(
        cls,
        field: Program,
        reverse: Program | None = None,
        *,
        y0: ArrayLike,  # (n, d); its dtype is that of the solve
        t: ArrayLike,  # (n_t); samples share it where the next three are not given
        t_start: ArrayLike | None = None,  # (n)
        t_len: ArrayLike | None = None,
        row: ArrayLike | None = None,
        stops: ArrayLike | None = None,
        knot: ArrayLike | None = None,
        knot_start: ArrayLike | None = None,
        knot_len: ArrayLike | None = None,
        seg_start: ArrayLike | None = None,
        coef: ArrayLike | None = None,  # (segments, degree + 1, m)
        cross_knots: ArrayLike | None = None,  # (n) 1: steps go over the knots of the sample
        method: str | Tableau | None = None,  # a table: kept for the life of the problem
        adaptive: bool | None = None,
        land: bool | None = None,
        step: float | None = None,
        first_step: float | None = None,
        max_step: float | None = None,
        rtol: float | None = None,
        atol: ArrayLike | None = None,  # (d)
        safety: float | None = None,
        min_factor: float | None = None,
        max_factor: float | None = None,
        beta: float | None = None,
        max_steps: int | None = None,
        grid: ArrayLike | None = None,
        grid_start: ArrayLike | None = None,
        grid_len: ArrayLike | None = None,
        coupling: float | None = None,  # lambda of pn_problem
        jump_set: ArrayLike | None = None,  # (rows, d), as target and weight
        jump_add: ArrayLike | None = None,
        jump: Program | None = None,  # programs at save times; their parameters stand behind the field's
        jump_reverse: Program | None = None,
        jump_data: ArrayLike | None = None,  # (rows, k)
        loss: Literal["none", "squared", "absolute", "huber", "student", "program"] | None = None,
        loss_program: Program | None = None,
        loss_reverse: Program | None = None,
        once: Program | None = None,  # see pn_hoisted
        once_reverse: Program | None = None,
        rest: Program | None = None,
        rest_reverse: Program | None = None,
        loss_scale: float | None = None,
        loss_dof: float | None = None,
        target: ArrayLike | None = None,  # (rows, d); of a loss program (rows, k)
        weight: ArrayLike | None = None,
        quadrature: bool | None = None,
        quadrature_coef: bool | None = None,
        steps: bool | None = None,
        dense: bool | None = None,
        threads: int | None = None,  # 0: num_threads()
    ) -> Problem: ...
    @property
    def field(self) -> Program: ...
    @property
    def reverse(self) -> Program | None: ...
    @property
    def tableau(self) -> Tableau | None: ...
    @property
    def n(self) -> int: ...
    @property
    def d(self) -> int: ...
    @property
    def m(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def n_theta(self) -> int: ...
    def takes(self, theta: object, /) -> bool: ...
    def fits(
        self,
        single: bool,
        theta: object,
        y0: object,
        t: object,
        target: object = None,
        /,
    ) -> bool: ...
    def run(
        self,
        theta: ArrayLike,  # (n_theta), or (n, n_theta): a row for each sample, and so in g_theta
        *,
        y0: ArrayLike | None = None,
        target: ArrayLike | None = None,
        weight: ArrayLike | None = None,
        data: ArrayLike | None = None,
        g_y: ArrayLike | None = None,
        gradient: Literal["none", "discrete", "reversible"] | None = "none",
        wrt_y0: bool = False,
        wrt_t: bool = False,
        wrt_inputs: bool = False,
        wrt_data: bool = False,
        wrt_target: bool = False,
        sensitivity: bool = False,
        memory: int | None = 0,
        callback: _Callback | None = None,
        out: _Float | None = None,
        event: Program | None = None,  # with it the next three; results event_which, event_side, event_y
        event_theta: ArrayLike | None = None,
        event_direction: ArrayLike | None = None,  # (events)
        event_side: ArrayLike | None = None,  # (n, events)
        after: Results | None = None,  # an earlier result, whose samples only jumped: the way back begins there
        tape: Tape | None = None,  # with gradient="discrete": only forward, the gradients come from back()
    ) -> Results: ...
    def back(
        self,
        tape: Tape,  # as run() of this problem has filled it
        g_y: ArrayLike,
        wrt_y0: bool = False,
        wrt_t: bool = False,
        wrt_inputs: bool = False,
        /,
    ) -> Results: ...
