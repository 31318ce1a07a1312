"""What a fitted NeuralODE is published with: its summary, comparisons, profiles of its parameters, its report."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.trajectories import Trajectories
from pynode.models.pages import write_page
from pynode.models.trajectories.equations.equation import Equation, equation_of
from pynode.models.trajectories.known.profiles import profiles_of
from pynode.models.trajectories.publishing.comparison import Comparison, compared
from pynode.models.trajectories.publishing.report import model_report
from pynode.models.trajectories.publishing.summary import Summary, summarise
from pynode.models.trajectories.publishing.web_page import page_of
from pynode.models.trajectories.simulations import Simulations
from pynode.training.likelihood.profile import Profile

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE


class Published(Simulations):
    """The part of `NeuralODE` that tells its results; its attributes are explained there."""

    data_: Trajectories | None
    weight_: list[NDArray[np.float64]] | None

    def summary(self, *, units: Mapping[str, str] | None = None, level: float = 0.95, profile: bool = False) -> Summary:
        """The results as statistics packages print them: estimates, errors, intervals, criteria.

        Parameters
        ----------
        units : dict of str, optional
            Parameter -> its unit, for the table.
        level : float, default 0.95
            Of confidence.
        profile : bool, default False
            Intervals by profile likelihood, see `profile`, in place of Wald's.

        Returns
        -------
        Summary
            Print it, or show it in a notebook; its attributes are the numbers, `to_frame()` is a table of pandas.

        Examples
        --------
        >>> import numpy as np, pynode as pn
        >>> @pn.field(state=1, theta={"k": pn.positive(1.0)})
        ... def decay(t, y, th):
        ...     return -th.k * y
        >>> t = np.linspace(0, 4, 20)
        >>> y = np.exp(-0.5 * t) + 0.02 * np.random.default_rng(0).standard_normal(20)
        >>> summary = pn.NeuralODE(field=decay).fit(t, y).summary(units={"k": "1/h"})
        >>> bool(summary.low[0] < 0.5 < summary.high[0])
        True
        """
        model: Any = self
        self.check_is_fitted()
        _check_level(level)
        return summarise(model, units, level, self.profile(level=level) if profile else None)

    def compare(self, *others: "NeuralODE", names: Sequence[str] | None = None) -> Comparison:
        """This model beside others of the same data, the best first.

        Parameters
        ----------
        *others : NeuralODE
            Fitted to the same data.
        names : sequence of str, optional
            Of the models, this one first. Default: by their fields.

        Returns
        -------
        Comparison
            Sorted by AICc, with differences, weights and evidence.

        Raises
        ------
        ValueError
            The models were fitted to different data; the message says where these differ.

        Examples
        --------
        >>> import numpy as np, pynode as pn
        >>> t = np.linspace(0, 4, 30)
        >>> y = 1 / (1 + 9 * np.exp(-2 * t)) + 0.02 * np.random.default_rng(0).standard_normal(30)
        >>> fits = [pn.NeuralODE(hidden=hidden, random_state=0).fit(t, y) for hidden in ((), (8,))]
        >>> fits[0].compare(fits[1], names=["linear", "network"]).names[0]
        'network'
        """
        model: Any = self
        return compared([model, *others], names)

    def equation(self, digits: int = 4) -> Equation:
        """The right-hand side that was fitted, as a person reads it.

        Parameters
        ----------
        digits : int, default 4
            Of numbers.

        Returns
        -------
        Equation
            Print it, or show it in a notebook; `latex`, `right` and `log_evidence` are its attributes. `summary()` has the
            standard errors of the numbers.

        Raises
        ------
        ValueError
            It is a network, or contains one, or is too long to read.

        Examples
        --------
        >>> import numpy as np, pynode as pn
        >>> t = np.linspace(0, 6, 60)
        >>> Y = np.stack([np.cos(t), -np.sin(t)], axis=1) + 0.01 * np.random.default_rng(0).standard_normal((60, 2))
        >>> print(pn.NeuralODE(random_state=0).fit(t, Y, names=["x", "v"]).equation(digits=2))
        dx/dt = v
        dv/dt = -x
        """
        model: Any = self
        self.check_is_fitted()
        if isinstance(digits, bool) or not isinstance(digits, (int, np.integer)) or not 1 <= digits <= 17:
            raise ValueError(f"digits={digits!r} must be an integer from 1 to 17")
        return equation_of(model, int(digits))

    def profile(self, *names: str, level: float = 0.95) -> dict[str, Profile]:
        """Profile likelihoods of parameters: how far each may go while the others make up for it.

        The parameter is held at values on either side of its estimate, and all else is fitted again along whole
        trajectories. Where the likelihood is not a parabola these intervals are right and Wald's are not; one without an
        end says that the data do not determine the parameter.

        Parameters
        ----------
        *names : str
            Parameters. Default: all that are not frozen; not the weights of networks.
        level : float, default 0.95
            Of confidence.

        Returns
        -------
        dict
            Name -> `pynode.training.likelihood.profile.Profile`.

        Raises
        ------
        ValueError
            The model has no field of its own, or no data, or no parameter of this name.
        """
        model: Any = self
        self.check_is_fitted()
        _check_level(level)
        return profiles_of(model, names, level)

    def report(self, path: str | os.PathLike[str] | None = None, *, title: str = "A learned differential equation") -> str:
        """The report of the fit as one page of HTML: what to beware of, parameters, pictures (needs matplotlib).

        Parameters
        ----------
        path : path, optional
            A file to write it to; an existing one is replaced in one step.
        title : str
            Of the page.

        Returns
        -------
        str
            The page.
        """
        model: Any = self
        self.check_is_fitted()
        page = model_report(model, title)
        if path is not None:
            write_page(path, page)
        return page

    def export_html(
        self, path: str | os.PathLike[str] | None = None, *, title: str = "A learned differential equation", draws: int = 40
    ) -> str:
        """Write a page that solves the model in the reader's browser, offline: sliders, trajectories, a phase portrait.

        Parameters
        ----------
        path : path, optional
            Where the page is written to; it is returned, too.
        title : str
            Its heading.
        draws : int, default 40
            Draws of the parameters from their posterior, for the bands; a model without a posterior has none.

        Returns
        -------
        str
            One self-contained page of HTML, about 0.3 MB.

        Raises
        ------
        ValueError
            The model has doses or is an ensemble, which the page does not know.

        Examples
        --------
        >>> import numpy as np, pynode as pn
        >>> @pn.field(state=1, theta={"k": pn.positive(1.0)})
        ... def decay(t, y, th):
        ...     return -th.k * y
        >>> t = np.linspace(0, 4, 20)
        >>> y = np.exp(-0.5 * t) + 0.02 * np.random.default_rng(0).standard_normal(20)
        >>> page = pn.NeuralODE(field=decay).fit(t, y).export_html()
        >>> page.startswith("<!doctype html>")
        True
        """
        from pynode.export.page import written

        model: Any = self
        self.check_is_fitted()
        if isinstance(draws, bool) or not isinstance(draws, int) or draws < 0:
            raise ValueError(f"draws={draws!r} must be a whole number of at least 0")
        content = page_of(model, draws)
        return written(content, path, title, f"Fitted to measurements (open circles) of {', '.join(model.names_)}.")


def _check_level(level: float) -> None:
    if isinstance(level, bool) or not isinstance(level, (int, float, np.number)) or not 0 < level < 1:
        raise ValueError(f"level={level!r} must be between 0 and 1, such as 0.95")
