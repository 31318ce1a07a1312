"""Input signals u(t), one for each sample: what drives a field from outside (a control, a forcing, a dose).

The C core knows one form: a polynomial on each interval between knots, which the steps land on. `Signal` turns values at
knots into coefficients, and the gradient of coefficients back into a gradient of the values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pynode.data.arrays import as_sample, own_array, read_only, real_array
from pynode.data.knots import Knots, all_digits, check_knots, check_span, checked, goes_over, refuse_function
from pynode.data.piecewise import Float, PiecewisePolynomial, evaluated, segments, slope_matrix

Kind = Literal["constant", "previous", "linear", "cubic"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Signal:
    """An input signal for every sample of a batch.

    Parameters
    ----------
    t : (K,) array, list of B arrays, or None
        Knots, strictly increasing; shared by all samples or one array a sample. None for a constant.
    u : array or list of arrays
        Values at the knots: (K, m) shared, (B, K, m), or a list of B arrays (K_i, m). A constant: (m,) or (B, m).
    kind : {"linear", "previous", "cubic", "constant"}, default "linear"
        How u goes between knots: straight lines; held until the next knot (zero-order hold; the last value holds on);
        a cubic with slopes from the parabola through three neighbouring knots (C1, local).
    knots : {"auto", "step", "smooth"}, default "auto"
        What knots are for the steps of a solve. "step": a step ends at each, so that no kink lies inside one and the method
        keeps its order; there are at least as many steps as knots. "smooth", for "linear" and "cubic": steps go over knots,
        and their error control takes care of the kinks, which it may miss: errors of hundreds of tolerances are possible.
        "auto": "smooth" for samples whose kinks are too small to matter, unless steps have a fixed size or gradients with
        respect to the inputs are wanted (that of a knot between two stages would be 0); else "step". Kinks are too small
        if the data leave a smooth curve through the knots by at most rtol times their standard deviation (to leading order:
        at gaps h, h/8 times the change of the slope, "cubic" h^2/128 times that of the second derivative), and the slope
        changes at no knot by more than a tenth of its root mean square, as it would at a corner.

    Attributes
    ----------
    kind, knots : str
    shared : bool
        All samples have the same signal.
    t, u : lists of arrays
        Knots (K_i,) and values (K_i, m) of each sample, read-only; of one where it is shared.
    m : int
        Number of features.

    Raises
    ------
    TypeError, ValueError
        Shapes do not fit, or knots do not increase; the message names the sample. Or knots="smooth" for what jumps.

    Notes
    -----
    A signal has values between its first and its last knot only ("previous": from the first knot on); a solve that leaves
    this range is refused.

    Examples
    --------
    >>> import pynode as pn
    >>> ramp = pn.Signal([0.0, 1.0, 3.0], [[0.0], [2.0], [2.0]])
    >>> ramp([0.5, 2.0]).tolist()
    [[1.0], [2.0]]
    """

    def __init__(self, t: Any, u: Any, kind: Kind = "linear", knots: Knots = "auto") -> None:
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r} is not one of {', '.join(KINDS)}")
        check_knots(knots, kind)
        refuse_function(u)
        if (t is None) != (kind == "constant"):
            raise ValueError("a constant input has t=None, every other kind needs its knots t")
        self.kind: Kind = kind
        self.knots: Knots = knots
        self.shared: bool = depth(u) == (1 if kind == "constant" else 2)
        if not self.shared and depth(u) < 2:
            wanted = "(m,) or (B, m)" if kind == "constant" else "(K, m) or (B, K, m) for K knots"
            raise ValueError(f"inputs: u has shape {np.shape(u)}; give {wanted}")
        self.u: list[Float] = [_values(u)] if self.shared else [_values(v) for v in u]
        if kind == "constant":
            self.u = [v.reshape(1, -1) for v in self.u]
            self.t: list[Float] = [read_only(np.zeros(1))] * len(self.u)
        else:
            if depth(t) == 0:
                raise ValueError(f"inputs: the knots t must be an array (K,) or a list of B arrays, not {t!r}")
            shared_t = depth(t) == 1
            times = [t] * len(self.u) if shared_t else list(t)
            if len(times) != len(self.u):
                raise ValueError(f"inputs: {len(times)} arrays of knots for {len(self.u)} samples")
            self.t = []
            for i, (x, v) in enumerate(zip(times, self.u, strict=True)):  # what samples share is kept once
                self.t.append(self.t[0] if shared_t and i > 0 and len(v) == len(x) else checked(x, v, i, kind))
        sizes = {v.shape[1] for v in self.u}
        if len(sizes) != 1:
            raise ValueError(f"inputs: samples have different numbers of features {sorted(sizes)}")
        self.m: int = sizes.pop()
        self._made: tuple[Any, PiecewisePolynomial] | None = None  # what `pieces` gave last

    def __getstate__(self) -> dict[str, Any]:
        """Without what is made again."""
        return self.__dict__ | {"_made": None}

    def __repr__(self) -> str:
        return f"Signal({self.kind}, {self.m} features, {'shared' if self.shared else f'{len(self.u)} samples'})"

    def pieces(
        self, batch: int, dtype: DTypeLike, spans: Float, own: bool = False, rtol: float = 0.0
    ) -> PiecewisePolynomial:
        """The signals of a batch in the form of the core.

        Parameters
        ----------
        batch : int
            How many samples.
        dtype : {float64, float32}
            Of the coefficients.
        spans : (B, 2) array
            Earliest and latest time of each sample.
        own : bool
            Give every sample segments of its own even if the signal is shared (needed for gradients).
        rtol : float
            Relative tolerance of the steps; 0 where they are of one size, without control of their error.

        Returns
        -------
        PiecewisePolynomial
            Breakpoints and coefficients.
        """
        if not self.shared and len(self.u) != batch:
            raise ValueError(f"inputs: {len(self.u)} signals for {batch} samples")
        n = batch if own or not self.shared else 1
        which = [0] * n if self.shared else range(n)
        last = float(spans[:, 1].max()) if len(spans) else 0.0
        self.check_spans(spans)
        key = (batch, np.dtype(dtype), own, rtol, last if self.kind == "previous" else None)
        if self._made is not None and self._made[0] == key:
            return self._made[1]
        alike = all(self.t[i] is self.t[0] for i in which)  # then knots are kept once
        knots = [self._all_knots(i, last) for i in (which[:1] if alike else which)]
        count = np.array([self._count(i) for i in which], dtype=np.int64)
        start = np.concatenate([[0], np.cumsum(count)[:-1]])
        knot_start = np.zeros_like(count) if alike else np.concatenate([[0], np.cumsum(count + 1)[:-1]])
        repeats = batch if n == 1 else 1  # all samples share the only segments
        parts = [self._coefficients(i) for i in ([0] if self.shared else which)]
        coef = read_only(np.concatenate(parts * (n // len(parts)), dtype=dtype, casting="same_kind"))
        exact = 0.0 if own else rtol
        crosses = [goes_over(self.knots, self.kind, t, c, exact) for t, c in zip(self.t, parts, strict=True)]
        self._made = (
            key,
            PiecewisePolynomial(
                np.concatenate(knots),
                np.repeat(knot_start, repeats),
                np.repeat(count + 1, repeats),
                np.repeat(start, repeats),
                coef,
                self.kind == "previous",
                np.repeat(np.array(crosses * (n // len(crosses)), dtype=bool), repeats),
            ),
        )
        return self._made[1]

    def pull(self, g_coef: Float) -> Float | list[Float]:
        """Gradient with respect to u from that of the coefficients.

        Parameters
        ----------
        g_coef : (segments, degree + 1, m) array
            Gradient with respect to the coefficients, made with own=True (see `pieces`).

        Returns
        -------
        array or list of arrays
            Shaped like u.
        """
        grads = []
        at = 0
        n = len(g_coef) // self._count(0) if self.shared else len(self.u)
        for i in range(n):
            source = 0 if self.shared else i
            g = g_coef[at : at + self._count(source)]
            at += self._count(source)
            grads.append(self._transpose(source, g))
        if self.kind == "constant":
            grads = [g[0] for g in grads]
        if self.shared:
            total: Float = np.sum(grads, axis=0)
            return total
        return np.stack(grads) if len({g.shape for g in grads}) == 1 else grads

    def __call__(self, t: ArrayLike, sample: int = 0) -> Float:
        """Values (..., m) of one sample's signal at times t (...) inside its range."""
        times = real_array("t", t, np.float64)
        i = 0 if self.shared else as_sample(sample, len(self.u))
        at = times.ravel()
        if at.size:
            self._check_span(i, at.min(), at.max(), sample)
        values = evaluated(self._all_knots(i, at.max(initial=0.0)), self._coefficients(i), at)
        return values.reshape(*times.shape, self.m)

    def mean(self, low: ArrayLike, high: ArrayLike, sample: int = 0) -> Float:
        """Means of one sample's signal over intervals; its value where an interval has no length.

        Parameters
        ----------
        low, high : (n,) array_like
            Where the intervals begin and end, low <= high.
        sample : int, default 0
            Which sample of the batch.

        Returns
        -------
        (n, m) array
        """
        low = real_array("low", low, np.float64)
        high = real_array("high", high, np.float64)
        i = 0 if self.shared else sample
        width = (high - low)[:, None]
        value = self(high, sample)
        area = self._integral(i, high) - self._integral(i, low)
        return np.where(width > 0, area / np.where(width > 0, width, 1.0), value)

    def known_until(self, sample: int = 0) -> float:
        """The last time at which one sample's signal has a value.

        Parameters
        ----------
        sample : int, default 0
            Which sample of the batch.

        Returns
        -------
        float
            Infinity where it goes on for ever.
        """
        return np.inf if self.kind in ("constant", "previous") else float(self.t[0 if self.shared else sample][-1])

    def take(self, samples: Sequence[int] | NDArray[np.integer]) -> Signal:
        """The signals of some samples of the batch.

        Parameters
        ----------
        samples : (n,) sequence of int
            Their positions.

        Returns
        -------
        Signal
            Of n samples.
        """
        if self.shared:
            return self
        t = None if self.kind == "constant" else [self.t[i] for i in samples]
        u = [self.u[i] for i in samples]
        return Signal(t, [v[0] for v in u] if self.kind == "constant" else u, self.kind, self.knots)

    def windows(self, samples: Sequence[int] | NDArray[np.integer], low: Float, high: Float) -> Signal:
        """The signals between two times each; knots farther off are left out.

        Parameters
        ----------
        samples : (n,) sequence of int
            The sample of the batch that each window is cut from; one may come several times.
        low, high : (n,) array
            Where the windows begin and end.

        Returns
        -------
        Signal
            Of n samples.
        """
        if self.kind == "constant":
            return self.take(samples)
        more = 2 if self.kind == "cubic" else 0  # neighbours that its slopes use
        ts = []
        us = []
        for sample, a, b in zip(samples, low, high, strict=True):
            i = 0 if self.shared else sample
            self._check_span(i, a, b, sample)
            first = max(int(np.searchsorted(self.t[i], a, side="right")) - 1 - more, 0)
            stop = int(np.searchsorted(self.t[i], b, side="right" if self.kind == "previous" else "left")) + 1 + more
            stop = max(stop - (self.kind == "previous"), first + (1 if self.kind == "previous" else 2))
            ts.append(self.t[i][first:stop])
            us.append(self.u[i][first:stop])
        return Signal(ts, us, self.kind, self.knots)

    def shifted(self, by: Float) -> Signal:
        """The signals at times t - by[i].

        Parameters
        ----------
        by : (B,) array
            How much later each of B samples starts.

        Returns
        -------
        Signal
            Of B samples.
        """
        if self.kind == "constant":
            return self
        which = [0] * len(by) if self.shared else range(len(by))
        ts = [self.t[i] - b for i, b in zip(which, by, strict=True)]
        return Signal(ts, [self.u[i] for i in which], self.kind, self.knots)

    def scaled(self, shift: Float | float, scale: Float | float, t_shift: float = 0.0, t_scale: float = 1.0) -> Signal:
        """The signal (u - shift) / scale of time (t - t_shift) / t_scale.

        Parameters
        ----------
        shift, scale : float or (m,) array
            Zero and unit of the values.
        t_shift : float, default 0
            Zero of time.
        t_scale : float, default 1
            Unit of time.

        Returns
        -------
        Signal
        """
        t = None if self.kind == "constant" else [(x - t_shift) / t_scale for x in self.t]
        u = [(v - shift) / scale for v in self.u]
        u = [v[0] for v in u] if self.kind == "constant" else u
        return Signal(t[0] if self.shared and t else t, u[0] if self.shared else u, self.kind, self.knots)

    # One sample

    def _all_knots(self, i: int, last: float) -> Float:
        """The knots with the ends that the last segment needs."""
        t = self.t[i]
        if self.kind == "constant":
            return np.array([0.0, 1.0])
        return np.append(t, max(last, t[-1]) + 1.0) if self.kind == "previous" else t

    def _count(self, i: int) -> int:
        """How many segments a sample has."""
        return len(self.t[i]) if self.kind in ("constant", "previous") else len(self.t[i]) - 1

    def check_spans(self, spans: Float, text: Callable[[float], str] = all_digits) -> None:
        """Check that the signal of each sample is known wherever it is needed.

        Parameters
        ----------
        spans : (B, 2) array
            Earliest and latest time of each sample.
        text : callable, optional
            How times are written. Default: as numbers.

        Raises
        ------
        ValueError
            One is not.
        """
        if self.kind == "constant":
            return
        first = np.array([t[0] for t in self.t])
        last = np.array([self.known_until(i) for i in range(len(self.t))])
        for i in np.flatnonzero((spans[:, 0] < first) | (spans[:, 1] > last)).tolist():
            self._check_span(0 if self.shared else i, spans[i, 0], spans[i, 1], i, text)

    def _check_span(self, i: int, low: float, high: float, sample: int, text: Callable[[float], str] = all_digits) -> None:
        if self.kind != "constant":
            check_span(self.t[i], self.kind, low, high, sample, text)

    def _integral(self, i: int, t: Float) -> Float:
        """(n, m) integrals from the first knot to times t (n,)."""
        knots = self._all_knots(i, t.max(initial=0.0))
        coef = self._coefficients(i)
        coef = coef / np.arange(1, coef.shape[1] + 1)[:, None]  # of the integral, by powers 1, 2, ...

        def pieces(segment: NDArray[np.intp], dt: Float) -> Float:
            terms = [coef[segment, q] * dt[:, None] ** (q + 1) for q in range(coef.shape[1])]
            return np.asarray(sum(terms))

        whole = pieces(np.arange(len(coef)), np.diff(knots))
        segment = segments(knots, t)
        return (np.cumsum(whole, axis=0) - whole)[segment] + pieces(segment, t - knots[segment])

    def _coefficients(self, i: int) -> Float:
        """Coefficients (segments, degree + 1, m) of one sample.

        The cubic is that of `scipy.interpolate.CubicHermiteSpline`; it stands here beside its transpose, `_transpose`.
        """
        t = self.t[i]
        u = self.u[i]
        if self.kind in ("constant", "previous"):
            return u[:, None, :]
        h = np.diff(t)[:, None]
        rise = np.diff(u, axis=0)
        if self.kind == "linear":
            return np.concatenate([u[:-1, None], (rise / h)[:, None]], axis=1)
        slope = slope_matrix(t) @ u
        s0 = slope[:-1]
        s1 = slope[1:]
        return np.stack([u[:-1], s0, (3 * rise / h - 2 * s0 - s1) / h, (s0 + s1 - 2 * rise / h) / h**2], axis=1)

    def _transpose(self, i: int, g: Float) -> Float:
        """The transpose of `_coefficients`."""
        t = self.t[i]
        if self.kind in ("constant", "previous"):
            return g[:, 0, :]
        h = np.diff(t)[:, None]
        gu = np.zeros((len(t), g.shape[2]))
        gu[:-1] += g[:, 0]
        g_rise = g[:, 1] / h if self.kind == "linear" else 3 * g[:, 2] / h**2 - 2 * g[:, 3] / h**3
        gu[:-1] -= g_rise
        gu[1:] += g_rise
        if self.kind == "cubic":
            g_slope = np.zeros_like(gu)
            g_slope[:-1] += g[:, 1] - 2 * g[:, 2] / h + g[:, 3] / h**2
            g_slope[1:] += -g[:, 2] / h + g[:, 3] / h**2
            gu += slope_matrix(t).T @ g_slope
        return gu


def depth(x: Any) -> int:
    """How many dimensions; lists may hold arrays of different lengths."""
    return 1 + (depth(x[0]) if len(x) else 0) if isinstance(x, (list, tuple)) else np.ndim(x)


def _values(u: Any) -> Float:
    """Values of one sample, checked."""
    values = own_array("inputs: u", u, np.float64)
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(f"inputs: u of a sample must be (K, m), not of shape {values.shape}")
    return values


def told(signal: Signal | None) -> tuple[Any, ...]:
    """All that a signal is, for the fingerprint of a checkpoint; empty where there is none."""
    return () if signal is None else (signal.kind, signal.knots, signal.t, signal.u)


@overload
def as_signal(inputs: None, m: int | None) -> None: ...
@overload
def as_signal(inputs: object, m: int | None) -> Signal: ...
def as_signal(inputs: Any, m: int | None) -> Signal | None:
    """What a user may give as inputs=, as a Signal (None where the field has none)."""
    if inputs is None:
        if m:
            raise ValueError(f"the field has {m} input{'s' * (m > 1)}: give inputs=(t, u) or inputs=pynode.Signal(...)")
        return None
    if m == 0:
        raise ValueError("inputs were given, but the field has none: declare them with field(..., inputs=m)")
    if isinstance(inputs, tuple) and len(inputs) not in (2, 3, 4):
        raise ValueError(
            f"inputs is a tuple of {len(inputs)}: give (t, u), (t, u, kind), (t, u, kind, knots) or an array of constants"
        )
    if isinstance(inputs, Signal):
        signal = inputs
    else:
        signal = Signal(*inputs) if isinstance(inputs, tuple) else Signal(None, inputs, "constant")
    if m is not None and signal.m != m:
        raise ValueError(f"the field has {m} inputs, the signal {signal.m}")
    return signal
