"""Tables of options: constructors, checks, files, docstrings and flags that come from them."""

import argparse
import inspect
import re

import numpy as np
import pytest

import pynode as pn
from pynode.app.commands.arguments import add_options, given_options
from pynode.models import options
from pynode.models.trajectories import options as trajectories

MODELS = [pn.NeuralODE, pn.NeuralODEClassifier, pn.NeuralODERegressor, pn.CNF, pn.LatentODE]

POSITIONAL = {
    "NeuralODE": ["hidden", "activation", "field"],
    "NeuralODEClassifier": ["hidden", "activation"],
    "NeuralODERegressor": ["hidden", "activation"],
    "CNF": ["hidden", "activation"],
    "LatentODE": ["latent", "hidden"],
}

BAD: dict[type, list] = {
    options.Integer: [2.5, "3", None, np.nan],
    options.Seed: [-1, 2**32, 0.5, "x"],
    options.CountOrAuto: [-1, 0.5, "x", None, np.nan],
    options.Positive: [-1.0, np.nan, np.inf, "1", []],
    options.Finite: [np.nan, np.inf, "0", []],
    options.Fraction: [-0.1, 1.5, np.nan, "a"],
    options.Switch: ["no", None, 2, []],
    options.OneOf: ["nothing of this name", 3, None],
    options.Activation: ["tan", None, 1],
    options.AdaptiveMethod: ["rk4", "rk5", None, 3],
    options.Schedule: ["linear", 3, None],
    options.Dtype: ["float16", None, "text"],
    options.OwnField: [lambda t, y: y, "mlp", 3],
    options.Widths: [(0,), (4, -1), (2.5,), "44", True, None, 1.5],
    options.Checked: ["text", [-1], [[1, 2], [3]]],
    trajectories.Function: ["y", 3, [1.0]],
    trajectories.InitialStates: ["free"],
    trajectories.ByState: [0.5, {0: -1.0}, {0: None}, {"gut": [1.0]}],
    trajectories.Limits: [0.5, {}, {"x": 1.0}, {"x": (1.0, 0.0)}, {"x": (None, None)}],
    trajectories.NoiseOf: ["loud", 3, {"y1": "loud"}, None],
}
"""Values that options under each rule must refuse."""

CASES = [(make, name, row) for make in MODELS for name, row in options.table(make).items()]


@pytest.mark.parametrize("make", MODELS)
def test_the_constructor_is_the_table(make):
    signature = inspect.signature(make).parameters
    rows = options.table(make)
    assert list(signature) == list(rows)
    assert {name: p.default for name, p in signature.items()} == {name: row.default for name, row in rows.items()}
    positional = [name for name, p in signature.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == POSITIONAL[make.__name__]
    assert all(p.kind is not p.VAR_KEYWORD for p in signature.values())


@pytest.mark.parametrize("make", MODELS)
def test_it_keeps_what_it_is_given_and_defaults_are_good(make):
    things = {name: object() for name in options.table(make)}
    model = make(**things)  # as in scikit-learn, nothing is checked before fit
    assert all(getattr(model, name) is thing for name, thing in things.items())
    assert model.get_params() == things
    make().check_options()


@pytest.mark.parametrize("make, name, row", CASES, ids=[f"{make.__name__}-{name}" for make, name, _ in CASES])
def test_bad_values_are_refused_by_name(make, name, row):
    for value in BAD[type(row.rule)]:
        if value is None and row.optional:
            continue
        model = make(**{name: value})
        with pytest.raises((TypeError, ValueError), match=name):
            model.check_options()
    model = make(**{name: None})
    if row.optional:
        model.check_options()


@pytest.mark.parametrize("make", MODELS)
def test_every_option_is_in_the_docstring_with_its_default(make):
    text = inspect.getdoc(make)
    section = text[text.index("Parameters\n----------") : text.index("Attributes\n----------")]
    entries = re.findall(r"^(\w+) : ", section, re.MULTILINE)
    assert entries == list(options.table(make)) and "{options}" not in text
    for name, row in options.table(make).items():
        entry = section[section.index(f"\n{name} : ") :]
        header, _, doc = entry[1:].partition("\n")
        assert doc.startswith("    ") and row.doc.split()[0] in doc
        assert row.default is None or "default" in header or "default" in doc.split("\n")[0], name
    assert max(map(len, make.__doc__.splitlines())) <= 125


def fitted(make, **more):
    rng = np.random.default_rng(0)
    t = np.linspace(0, 2, 12)
    if make is pn.NeuralODE:
        return make(max_iter=2, random_state=0, **more).fit(t, np.exp(-t))
    if make is pn.LatentODE:
        y = np.exp(-t)[None, :, None] * rng.uniform(0.5, 2, (6, 1, 1))
        return make(latent=2, max_iter=3, random_state=0, **more).fit(t, y)
    X = rng.normal(size=(40, 2))
    y = [(X[:, 0] > 0).astype(int)] if make is pn.NeuralODEClassifier else [X[:, 0]] if make is not pn.CNF else []
    return make(max_iter=2, random_state=0, **more).fit(X, *y)


@pytest.mark.parametrize("make", MODELS)
def test_options_come_back_from_a_file(make, tmp_path):
    given = {"hidden": (5, 3), "rtol": np.float64(1e-3), "max_gradient": 2.0, "verbose": False}
    given |= {"context": (0.5, 1.5), "noise": np.array([0.2])} if make is pn.LatentODE else {}
    given |= {"windows": (4, None), "max_gradient": None} if make is pn.NeuralODE else {}
    model = fitted(make, **given)
    model.save(tmp_path / "model.npz")
    again = pn.load(tmp_path / "model.npz")
    for name, value in model.get_params().items():
        found = getattr(again, name)
        assert type(found) is list if isinstance(value, np.ndarray) else type(found) is type(value) or value == found
        np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize("make", MODELS)
def test_options_of_a_file_are_checked(make):
    content = {"model": make.__name__} | fitted(make).to_content()
    for change, match in (({"max_iter": 0}, "max_iter=0"), ({"rtol": "1"}, "rtol"), ({"surprise": 1}, "surprise")):
        with pytest.raises((TypeError, ValueError), match=match):
            make.from_content(content | {"params": content["params"] | change})
    with pytest.raises(ValueError, match="dict"):
        make.from_content(content | {"params": [1]})


def test_a_schedule_of_ones_own_is_in_no_file():
    model = fitted(pn.CNF, schedule=lambda done: 1.0)
    with pytest.raises(ValueError, match=r"set_params\(schedule='cosine'\)"):
        model.to_content()


def test_flags_are_those_of_the_table():
    parser = argparse.ArgumentParser()
    add_options(parser, pn.NeuralODE)
    rows = options.table(pn.NeuralODE)
    flags = {action.option_strings[0]: action for action in parser._actions if action.dest in rows}
    assert set(flags) == {row.flag.name for row in rows.values() if row.flag is not None}
    assert all(action.help for action in flags.values())
    plain = given_options(parser.parse_args([]), pn.NeuralODE)
    assert plain == {name: rows[name].default for name in plain} | {"random_state": 0}
    line = ["--hidden", "8", "4", "--log", "--max-iter", "7", "--weight-decay", "0.5", "--seed", "3", "--jobs", "-1"]
    line += ["--noise", "huber"]
    given = given_options(parser.parse_args(line), pn.NeuralODE)
    assert given == plain | {
        "hidden": (8, 4),
        "log": True,
        "max_iter": 7,
        "weight_decay": 0.5,
        "random_state": 3,
        "n_jobs": -1,
        "noise": "huber",
    }


def test_a_single_width_may_be_an_integer():
    assert options.widths(7) == options.widths(np.int64(7)) == options.widths([7]) == (7,)
    assert fitted(pn.NeuralODE, hidden=3).theta_.shape == fitted(pn.NeuralODE, hidden=(3,)).theta_.shape


def test_whole_numbers_may_be_floats():
    model = fitted(pn.NeuralODE, n_estimators=2.0, n_restarts=1.0)
    assert len(model.estimators_) == 2


def test_unknown_options_are_refused_in_the_name_of_the_model():
    for name, words in {"events": "pn.solve", "hiden": "did you mean hidden", "weight": "fit\\(t, Y, weight"}.items():
        with pytest.raises(TypeError, match=f"NeuralODE has no option '{name}': .*{words}"):
            pn.NeuralODE(**{name: 1})
    with pytest.raises(TypeError, match="CNF has no option 'hiden'"):
        pn.CNF(hiden=3)
