"""Example data: a real record, systems with a known equation, families of curves.

A data set is a function in a small file of this folder that returns a `Dataset`, and a row below.
"""

from pynode.datasets.base import Dataset
from pynode.datasets.curves import Curves, periodic, spirals
from pynode.datasets.oscillators import van_der_pol
from pynode.datasets.pelts import lynx_hare
from pynode.datasets.predator_prey import lotka_volterra

__all__ = ["Curves", "Dataset", "lotka_volterra", "lynx_hare", "periodic", "spirals", "van_der_pol"]
