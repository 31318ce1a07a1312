# Made from the table in __init__.py by tools/make_stub.py

from pynode import control as control
from pynode import course as course
from pynode import datasets as datasets
from pynode import export as export
from pynode import fit as fit
from pynode import models as models
from pynode import plots as plots
from pynode._core import ISAS as ISAS
from pynode._core import isa as isa
from pynode._core import num_threads as num_threads
from pynode._core import set_isa as set_isa
from pynode._core import set_num_threads as set_num_threads
from pynode._version import __version__ as __version__
from pynode.calls.check_grad import check_grad as check_grad
from pynode.calls.consistent import consistent_state as consistent_state
from pynode.calls.loss_and_grad import loss_and_grad as loss_and_grad
from pynode.calls.objective import Objective as Objective
from pynode.calls.odeint import odeint as odeint
from pynode.calls.sensitivities import EventSensitivities as EventSensitivities
from pynode.calls.sensitivities import Sensitivities as Sensitivities
from pynode.calls.sensitivities import SensitivityProblem as SensitivityProblem
from pynode.calls.sensitivities import sensitivities as sensitivities
from pynode.calls.solve import solve as solve
from pynode.data.clock import Clock as Clock
from pynode.data.csv import read_csv as read_csv
from pynode.data.files import ModelFileError as ModelFileError
from pynode.data.nonmem import read_nonmem as read_nonmem
from pynode.data.partitions import Partitions as Partitions
from pynode.data.signal import Signal as Signal
from pynode.data.tables import TableError as TableError
from pynode.data.tables import TableWarning as TableWarning
from pynode.data.trajectories import Trajectories as Trajectories
from pynode.engine.gradients import Gradients as Gradients
from pynode.engine.options import METHODS as METHODS
from pynode.engine.solution import LossAndGrad as LossAndGrad
from pynode.engine.solution import Solution as Solution
from pynode.engine.solution import Stats as Stats
from pynode.engine.tableau import Tableau as Tableau
from pynode.errors import STATUS as STATUS
from pynode.errors import ExtrapolationWarning as ExtrapolationWarning
from pynode.errors import SolveError as SolveError
from pynode.errors import SolveWarning as SolveWarning
from pynode.errors import StiffnessWarning as StiffnessWarning
from pynode.errors import ToleranceWarning as ToleranceWarning
from pynode.events.solution import Events as Events
from pynode.events.solution import EventSolution as EventSolution
from pynode.experiments.doses import Dose as Dose
from pynode.fields.callback import callback_field as callback_field
from pynode.fields.cells import gru_cell as gru_cell
from pynode.fields.cells import rnn_cell as rnn_cell
from pynode.fields.constraints import bounded as bounded
from pynode.fields.constraints import frozen as frozen
from pynode.fields.constraints import positive as positive
from pynode.fields.event import Event as Event
from pynode.fields.event import event as event
from pynode.fields.field import Field as Field
from pynode.fields.make import field as field
from pynode.fields.make import mlp as mlp
from pynode.fields.mechanics import hamiltonian as hamiltonian
from pynode.fields.mechanics import second_order as second_order
from pynode.fields.system import System as System
from pynode.fields.transforms import divergence as divergence
from pynode.fields.transforms import grad as grad
from pynode.fields.transforms import hvp as hvp
from pynode.fields.transforms import jacobian as jacobian
from pynode.fields.transforms import jvp as jvp
from pynode.fields.transforms import vjp as vjp
from pynode.models.base import load as load
from pynode.models.flows.cnf import CNF as CNF
from pynode.models.flows.predictors import NeuralODEClassifier as NeuralODEClassifier
from pynode.models.flows.predictors import NeuralODERegressor as NeuralODERegressor
from pynode.models.flows.resnet import ResNet as ResNet
from pynode.models.latent.latent_ode import LatentODE as LatentODE
from pynode.models.trajectories.neural_ode import NeuralODE as NeuralODE
from pynode.programs.functions import elu as elu
from pynode.programs.functions import erf as erf
from pynode.programs.functions import gelu as gelu
from pynode.programs.functions import leaky_relu as leaky_relu
from pynode.programs.functions import relu as relu
from pynode.programs.functions import sigmoid as sigmoid
from pynode.programs.functions import silu as silu
from pynode.programs.functions import softplus as softplus
from pynode.programs.traced import TraceError as TraceError
from pynode.training.regression import Regression as Regression

__all__ = [  # noqa: RUF022
    "CNF",
    "Clock",
    "Dose",
    "Event",
    "EventSensitivities",
    "EventSolution",
    "Events",
    "ExtrapolationWarning",
    "Field",
    "Gradients",
    "ISAS",
    "LatentODE",
    "LossAndGrad",
    "METHODS",
    "ModelFileError",
    "NeuralODE",
    "NeuralODEClassifier",
    "NeuralODERegressor",
    "Objective",
    "Partitions",
    "Regression",
    "ResNet",
    "STATUS",
    "Sensitivities",
    "SensitivityProblem",
    "Signal",
    "Solution",
    "SolveError",
    "SolveWarning",
    "Stats",
    "StiffnessWarning",
    "System",
    "TableError",
    "TableWarning",
    "Tableau",
    "ToleranceWarning",
    "TraceError",
    "Trajectories",
    "__version__",
    "bounded",
    "callback_field",
    "check_grad",
    "consistent_state",
    "control",
    "course",
    "datasets",
    "divergence",
    "elu",
    "erf",
    "event",
    "export",
    "field",
    "fit",
    "frozen",
    "gelu",
    "grad",
    "gru_cell",
    "hamiltonian",
    "hvp",
    "isa",
    "jacobian",
    "jvp",
    "leaky_relu",
    "load",
    "loss_and_grad",
    "mlp",
    "models",
    "num_threads",
    "odeint",
    "plots",
    "positive",
    "read_csv",
    "read_nonmem",
    "relu",
    "rnn_cell",
    "second_order",
    "sensitivities",
    "set_isa",
    "set_num_threads",
    "sigmoid",
    "silu",
    "softplus",
    "solve",
    "vjp",
]
