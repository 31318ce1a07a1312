"""tools/wheels.py and tools/release.py, but for the compiler: what goes into a wheel, its bytes, what a release refuses.

.ci/run builds a wheel, and installs and runs it where there is no compiler.
"""

import base64
import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tools(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module


@pytest.fixture
def project(tools):
    pytest.importorskip("zopfli", reason="wheels are compressed by zopfli")
    files = {"METADATA": b"Metadata-Version: 2.1\nName: pynode-ode\nVersion: 0.1.0\n\nText.\n", "top_level.txt": b"pynode\n"}
    return tools("wheel_files").Project("pynode-ode", "0.1.0", ("numpy>=2.0",), files)


def test_a_wheel_is_what_its_record_says(tools, project, tmp_path):
    files = {"pynode/__init__.py": b"x = 1\n", "pynode/_core.abi3.so": b"\x7fELF"}
    path = tools("wheel_files").pack(files, project, "cp311-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64", tmp_path, 1e9)
    assert path.name == "pynode_ode-0.1.0-cp311-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    with zipfile.ZipFile(path) as archive:
        record = archive.read("pynode_ode-0.1.0.dist-info/RECORD").decode().splitlines()
        rows = dict(line.split(",", 1) for line in record)
        assert set(rows) == set(archive.namelist())
        for name in files:
            digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).decode().rstrip("=")
            assert rows[name] == f"sha256={digest},{len(files[name])}"
        wheel = archive.read("pynode_ode-0.1.0.dist-info/WHEEL").decode()
        assert wheel.count("Tag: cp311-abi3-") == 2 and "Root-Is-Purelib: false" in wheel
        assert {entry.date_time for entry in archive.infolist()} == {(2001, 9, 9, 1, 46, 40)}
    tools("wheel_files").check_metadata(path)


def test_the_same_files_make_the_same_bytes(tools, project, tmp_path):
    files = {"pynode/a.py": b"1", "pynode/b.py": b"2"}
    pack = tools("wheel_files").pack
    first = pack(files, project, "cp311-abi3-win_amd64", tmp_path / "1", 1e9)
    second = pack(dict(reversed(files.items())), project, "cp311-abi3-win_amd64", tmp_path / "2", 1e9)
    assert first.read_bytes() == second.read_bytes()


def test_a_wheel_whose_name_lies_is_refused(tools, project, tmp_path):
    path = tools("wheel_files").pack({}, project, "cp311-abi3-win_amd64", tmp_path, 1e9)
    lie = path.rename(path.with_name(path.name.replace("0.1.0", "0.2.0")))
    with pytest.raises(SystemExit, match="disagree"):
        tools("wheel_files").check_metadata(lie)


def test_parts_of_a_wheel(tools, project):
    targets = tools("wheel_targets").TARGETS
    for name, target in targets.items():
        parts = json.loads(tools("wheel_files").sbom(project, target, "0.17.1"))
        names = {part["name"] for part in parts["components"]}
        assert parts["bomFormat"] == "CycloneDX" and parts["metadata"]["component"]["version"] == "0.1.0"
        assert "numpy" in names and ("mingw-w64" in names) == (name == "windows-x86_64")


def test_time_of_sources(tools, monkeypatch):
    time_of_sources = tools("wheel_files").time_of_sources
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    assert time_of_sources() == 1_000_000_000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")  # before what an archive can hold
    assert time_of_sources() == 315_532_800


@pytest.mark.skipif(sys.platform != "linux", reason="compares with the headers of Linux")
def test_sizes_are_those_of_this_python(tools):
    targets = tools("wheel_targets")
    text = targets.pyconfig(targets.TARGETS["manylinux-x86_64"])
    for name, size in re.findall(r"#define SIZEOF_(\w+) (\d+)", text):
        known = sysconfig.get_config_var(f"SIZEOF_{name}")
        assert known is None or known == int(size), name


def test_names_that_python_exports(tools):
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").exists():
        pytest.skip("this Python came without its headers")
    names = tools("wheel_targets").declared(headers)
    assert names["PyExc_ValueError"] and names["_Py_NoneStruct"] and names["PyType_Type"]  # data
    assert not names["PyObject_GetAttrString"] and not names["PyTuple_GetItem"]
    assert not names["_PyArg_ParseTupleAndKeywords_SizeT"]  # what PY_SSIZE_T_CLEAN makes of another


def test_an_unknown_platform_is_refused():
    command = [sys.executable, str(ROOT / "tools" / "wheels.py"), "amiga"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert run.returncode != 0 and "'amiga'" in run.stderr and "manylinux-x86_64" in run.stderr


# ---- a release


@pytest.fixture
def release(tools, tmp_path):
    (tmp_path / "pynode").mkdir()
    (tmp_path / "packaging" / "conda").mkdir(parents=True)
    (tmp_path / "pynode" / "_version.py").write_text('__version__ = "0.2.0"\n')
    (tmp_path / "CITATION.cff").write_text("version: 0.2.0\n")
    (tmp_path / "packaging" / "conda" / "recipe.yaml").write_text('context:\n  version: "0.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [0.2.0] - 2027-01-31\n\n- New.\n")
    return tools("release"), tmp_path


def test_a_release_that_is_ready(release):
    module, root = release
    assert module.faults(root, "v0.2.0") == [] == module.faults(root, None)


def test_a_version_that_is_not_the_same_everywhere(release):
    module, root = release
    (root / "CITATION.cff").write_text("version: 0.1.0\n")
    assert any("CITATION.cff" in fault and "0.1.0" in fault for fault in module.faults(root, None))


def test_a_tag_of_another_version(release):
    module, root = release
    assert any("v0.3.0" in fault for fault in module.faults(root, "v0.3.0"))


def test_a_changelog_that_is_not_ready(release):
    module, root = release
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n- New.\n")
    assert module.faults(root, None) == []  # not yet
    assert any("CHANGELOG.md" in fault for fault in module.faults(root, "v0.2.0"))
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## [0.2.0] - soon\n\n- New.\n")
    assert any("CHANGELOG.md" in fault for fault in module.faults(root, "v0.2.0"))
