"""Nothing here runs without PyTorch."""

import importlib.util

import pytest

found = importlib.util.find_spec("torch")
HERE = found is not None and found.origin is not None

collect_ignore_glob = [] if HERE else ["test_*.py"]

if HERE:
    import torch

    @pytest.fixture(autouse=True)
    def one_thread_one_seed():
        torch.set_num_threads(1)
        torch.manual_seed(0)


def pytest_collection_modifyitems(items):
    """torch warns of its own parts."""
    for item in items:
        if "with_torch" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))
