"""Tables as people have them: whatever is read has the right numbers, whatever can be read in two ways is refused."""

import gzip
import warnings

import numpy as np
import pytest

import pynode as pn

T = np.arange(0, 20, 0.5)
Y = 20 + 5 * np.exp(-0.3 * T)


@pytest.fixture
def write(tmp_path):
    def made(text, encoding="utf-8", name="table.csv"):
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return file

    return made


def rows(separator=",", decimal=".", end="\n", y=Y):
    return "".join(f"{a:.1f}{separator}{b:.4f}".replace(".", decimal) + end for a, b in zip(T, y, strict=True))


GOOD = {
    "plain": ("t,T\n" + rows(), "utf-8"),
    "byte order mark": ("\ufefft,T\n" + rows(), "utf-8"),
    "semicolon": ("t;T\n" + rows(";"), "utf-8"),
    "decimal comma": ("t;T\n" + rows(";", ","), "utf-8"),
    "tab, decimal comma": ("t\tT\n" + rows("\t", ","), "utf-8"),
    "blank, decimal comma": ("t T\n" + rows(" ", ","), "utf-8"),
    "decimal comma in quotes": ("t,T\n" + "".join(f'"{a},0","{b}"\n' for a, b in enumerate(Y)).replace(".", ","), "utf-8"),
    "row of units": ("t,T\ns,degC\n" + rows(), "utf-8"),
    "row of units in brackets": ("t;T\n[s];[°C]\n" + rows(";"), "utf-8"),
    "row of units, one blank": ("t,T\n,degC\n" + rows(), "utf-8"),
    "row of types": ("t,T\n#,real\n" + rows(), "utf-8"),
    "comments": ("# logger 7\n# site A\nt,T\n" + rows(), "utf-8"),
    "the header is a comment": ("# logger 7\n# t T\n" + rows(" "), "utf-8"),
    "title": ("Logger export 2024\nt,T\n" + rows(), "utf-8"),
    "titles with separators": ("Logger;7;;\nStart;2024-03-01;;\n\nt;T\n" + rows(";"), "utf-8"),
    "Excel's sep=": ("sep=;\nt;T\n" + rows(";"), "utf-8"),
    "UTF-16": ("t\tT\n" + rows("\t"), "utf-16"),
    "UTF-16 without its mark": ("t\tT\n" + rows("\t"), "utf-16-le"),
    "UTF-32": ("t\tT\n" + rows("\t"), "utf-32"),
    "separator at the end": ("t,T\n" + rows(end=",\n"), "utf-8"),
    "separators at the end of all lines": ("t,T,,\n" + rows(end=",,\n"), "utf-8"),
    "lines of Windows": ("t,T\r\n" + rows(end="\r\n"), "utf-8"),
    "lines of old Macs": ("t,T\r" + rows(end="\r"), "utf-8"),
    "blanks": (" t , T\n" + rows(" , "), "utf-8"),
    "aligned by blanks": ("   t       T\n" + "".join(f"{a:6.1f}  {b:9.4f}\n" for a, b in zip(T, Y, strict=True)), "utf-8"),
    "pipe": ("t|T\n" + rows("|"), "utf-8"),
    "empty last lines": ("t,T\n" + rows() + ",\n,\n\n", "utf-8"),
    "index without a name": (
        ",t,T\n" + "".join(f"{i},{a},{b}\n" for i, (a, b) in enumerate(zip(T, Y, strict=True))),
        "utf-8",
    ),
    "exponents": ("t,T\n" + "".join(f"{a:e},{b:.4E}\n" for a, b in zip(T, Y, strict=True)), "utf-8"),
    "exponents of Fortran": (
        "t,T\n" + "".join(f"{a},{b:.6e}\n" for a, b in zip(T, Y, strict=True)).replace("e", "D"),
        "utf-8",
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_dialects(write, name):
    text, encoding = GOOD[name]
    data = pn.read_csv(write(text, encoding), "t", "T")
    times = np.arange(len(T)) if name == "decimal comma in quotes" else T
    np.testing.assert_allclose(data.t[0], times, rtol=1e-12)
    np.testing.assert_allclose(data.y[0][:, 0], Y, atol=6e-4 if "xponents" in name else 6e-5)


@pytest.mark.parametrize(
    "cells, numbers",
    [
        (["1,025.00", "1,030.50"], [1025, 1030.5]),
        (["1.025,00", "1.030,5"], [1025, 1030.5]),
        (["1.025,5", "1.030"], [1025.5, 1030]),
        (["1,234,567", "1,5"], "two ways"),
        (["1,234,567", "1,000"], [1234567, 1000]),
        (["1.234.567", "1.000"], [1234567, 1000]),
        (["1,234", "0.5"], [1234, 0.5]),
        (["1,234", "0,5"], [1.234, 0.5]),
        (["0,123", "0,456"], [0.123, 0.456]),
        (["1,234", "5,678"], r"'1,234' is 1\.234 or 1234: say which"),
        (["1.5", "2,5"], "two ways"),
        (["1,5", "1.234"], r"line 3, column 'x': '1\.234' is not a number: its decimal point"),
        (["1 234", "12 345,5"], [1234, 12345.5]),
        (["1\u00a0234.5", "1\u202f000"], [1234.5, 1000]),
        (["1'234.5", "2"], [1234.5, 2]),
        (["\u22121.5", "+2"], [-1.5, 2]),
        (["1e3", "-.5"], [1000, -0.5]),
        (["1_000", "2"], "'1_000' is not a number"),
        (["25.3 °C", "2"], "'25.3 °C' is not a number; write the number alone"),
        (["12 34", "2"], "'12 34' is not a number"),
        (["1,23,456.5", "2.5"], "'1,23,456.5' is not a number"),
    ],
)
def test_numbers(write, cells, numbers):
    file = write("t;x\n" + "".join(f"{i};{cell}\n" for i, cell in enumerate(cells)))
    if isinstance(numbers, str):
        with pytest.raises(pn.TableError, match=numbers):
            pn.read_csv(file, "t", "x")
    else:
        assert pn.read_csv(file, "t", "x").y[0][:, 0].tolist() == numbers


def test_numbers_as_other_columns_tell(write):
    file = write("t;x;pump\n0;25,003;1,0\n1;24,522;0,5\n")
    assert pn.read_csv(file, "t", "x").y[0][:, 0].tolist() == [25.003, 24.522]
    file = write("t;x;price\n0;25,003;1.5\n1;24,522;0.5\n")
    assert pn.read_csv(file, "t", "x").y[0][:, 0].tolist() == [25003, 24522]


def test_numbers_as_told(write):
    file = write("t;x\n0;1,234\n1;5,678\n")
    assert pn.read_csv(file, "t", "x", decimal=",").y[0][:, 0].tolist() == [1.234, 5.678]
    assert pn.read_csv(file, "t", "x", thousands=",").y[0][:, 0].tolist() == [1234, 5678]
    with pytest.raises(pn.TableError, match="line 2, column 'x': '1,234' is not a number: its decimal comma"):
        pn.read_csv(file, "t", "x", decimal=".")
    with pytest.raises(ValueError, match="decimal=';' must be"):
        pn.read_csv(file, "t", "x", decimal=";")
    file = write("t;x\n0;1 234 567\n1;1.234\n")
    assert pn.read_csv(file, "t", "x", thousands=" ").y[0][:, 0].tolist() == [1234567, 1.234]


def test_compressed_files(write):
    data = pn.read_csv(write(gzip.compress(("t,T\n" + rows()).encode()), name="table.csv.gz"), "t", "T")
    np.testing.assert_array_equal(data.t[0], T)


def test_encodings(write):
    file = write("t,T [°C]\n" + rows(), "latin-1")
    with pytest.warns(pn.TableWarning, match="not in UTF-8: it was read as Windows-1252"):
        assert pn.read_csv(file, "t", "T [°C]").names == ("T [°C]",)
    for name in ("latin-1", "cp1252"):
        assert pn.read_csv(file, "t", "T [°C]", encoding=name).names == ("T [°C]",)
    with pytest.raises(pn.TableError, match="is not in utf-8"):
        pn.read_csv(file, "t", "T [°C]", encoding="utf-8")
    with pytest.raises(ValueError, match="encoding='klingon' is not known"):
        pn.read_csv(file, "t", "T", encoding="klingon")
    with pytest.raises(pn.TableError, match="is not a text file"):
        pn.read_csv(write(b"PK\3\4\0\0\0\1\2\0\0" * 9), "t", "T")


def test_rows_of_units(write):
    file = write("t,T\ns,5\n0,1\n1,2\n")
    with pytest.raises(pn.TableError, match="line 2, column 't': 's' is not a number"):
        pn.read_csv(file, "t", "T")
    assert pn.read_csv(file, "t", "T", units_row=True).lengths == (2,)
    with pytest.raises(pn.TableError, match="line 2, column 't': 's' is not a number"):
        pn.read_csv(write("t,T\ns,degC\n0,1\n"), "t", "T", units_row=False)
    assert pn.read_csv(write("id,t,x\na,0,1\na,1,2\n"), "t", "x", "id").lengths == (2,)
    assert pn.read_csv(write("when,x\n2024-01-01,1\n2024-01-02,2\n"), "when", "x").lengths == (2,)
    assert pn.read_csv(write("when,x\n01.01.2024,NA\n02.01.2024,2\n"), "when", "x", date_format="%d.%m.%Y").lengths == (2,)


def test_rows_longer_than_the_header(write):
    with pytest.raises(pn.TableError, match="line 3: 3 entries, but the header has 2"):
        pn.read_csv(write("t,x\n0,1\n1,2,3\n"), "t", "x")


@pytest.mark.parametrize("code", ["#N/A", "NA", "", " ", "nan", ".", "NULL", "-", "n.a.", "<NA>"])
def test_what_is_missing(write, code):
    assert np.isnan(pn.read_csv(write(f"t;x;y\n0;1;1\n1;{code};1.5\n2;3;2\n"), "t", ["x", "y"]).y[0][1, 0])


@pytest.mark.parametrize(
    "code, missing", [("-999", -999), ("-999.0", "-999"), ("BLQ", "BLQ"), ("blq", ["BLQ", -1]), ("1e30", 1e30)]
)
def test_codes_of_missing_values(write, code, missing):
    data = pn.read_csv(write(f"t,x\n0,1\n1,{code}\n2,3\n"), "t", "x", missing=missing)
    np.testing.assert_array_equal(data.y[0][:, 0], [1, np.nan, 3])
    frame = pytest.importorskip("pandas").DataFrame({"t": [0, 1, 2], "x": [1, -999, 3]})
    np.testing.assert_array_equal(pn.Trajectories.from_frame(frame, "t", "x", missing=-999).y[0][:, 0], [1, np.nan, 3])


@pytest.mark.parametrize(
    "cells, words",
    [
        ("1 2 -999 3", r"column 'x' holds -999 once, far from all others \(1 to 3\).*missing=-999 \(--missing -999\)"),
        ("1 -9999 2 -9999 3", "holds -9999 2 times"),
        ("990 999 1010", None),
        ("-9 -5 3", None),
        ("0.1 9999 0.2", "holds 9999 once"),
        ("5 5 5 5", "column 'x' is 5 in every row: a constant"),
        ("5 5", None),
        ("5 5 5 5.1", None),
    ],
)
def test_doubts(write, cells, words):
    file = write("t,x\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells.split())))
    if words is None:
        pn.read_csv(file, "t", "x")
    else:
        with pytest.warns(pn.TableWarning, match=words):
            pn.read_csv(file, "t", "x")


def test_readings_beyond_a_limit(write):
    file = write("t,x,y\n0,1,5\n1,<0.1,6\n2,>50,7\n3,≤ 2,8\n")
    with pytest.raises(pn.TableError, match=r"line 3, column 'x': '<0\.1' is a reading beyond a limit: censored=True"):
        pn.read_csv(file, "t", ["x", "y"])
    data = pn.read_csv(file, "t", ["x", "y"], censored=True)
    assert data.y[0][:, 0].tolist() == [1, 0.1, 50, 2]
    assert data.censored[0].tolist() == [[0, 0], [1, 0], [-1, 0], [1, 0]]
    assert data.rows(1, 3).censored[0].tolist() == [[1, 0], [-1, 0]] and data.take([0]).censored[0].shape == (4, 2)
    assert pn.read_csv(file, "t", "y", censored=True).censored is None
    with pytest.raises(pn.TableError, match="'<LOD' says that a limit was passed, but not which"):
        pn.read_csv(write("t,x\n0,<LOD\n1,2\n"), "t", "x", censored=True)
    assert np.isnan(pn.read_csv(write("t,x\n0,<LOD\n1,2\n"), "t", "x", missing="<LOD").y[0][0, 0])
    comma = pn.read_csv(write("t;x\n0;<0,1\n1;2,5\n"), "t", "x", censored=True)
    assert comma.y[0][:, 0].tolist() == [0.1, 2.5]


@pytest.mark.parametrize(
    "asked, answer",
    [("Temperature", "temperature"), ("temprature", "temperature"), ("T", r"T \[°C\]"), ("Time", "time"), ("qqq", None)],
)
def test_the_nearest_name(write, asked, answer):
    file = write("time,temperature,T [°C]\n0,1,2\n1,2,3\n")
    with pytest.raises(pn.TableError, match=rf"no column '{asked}'.*") as caught:
        pn.read_csv(file, asked if asked == "Time" else "time", "temperature" if asked == "Time" else asked)
    said = str(caught.value)
    assert ("did you mean" in said) == (answer is not None)
    if answer is not None:
        assert f"did you mean {answer.replace(chr(92), '')!r}?" in said


# ---- Wide form, replicates


def test_wide_form(write):
    file = write("hour;mouse 1;mouse 2;mouse 3\n0;1;2;\n1;0,5;;3\n2;0,25;1;2\n")
    data = pn.read_csv(file, "hour", "weight", wide=True)
    assert data.ids == ("mouse 1", "mouse 2", "mouse 3") and data.names == ("weight",)
    assert [t.tolist() for t in data.t] == [[0, 1, 2], [0, 2], [1, 2]]
    assert [y[:, 0].tolist() for y in data.y] == [[1, 0.5, 0.25], [2, 1], [3, 2]]
    some = pn.read_csv(file, "hour", "weight", wide=["mouse 2"])
    assert some.ids == ("mouse 2",)
    with pytest.raises(pn.TableError, match="did you mean 'mouse 2'"):
        pn.read_csv(file, "hour", "weight", wide=["mouse2"])
    with pytest.raises(pn.TableError, match="no column of ids"):
        pn.read_csv(file, "hour", "weight", id="mouse 1", wide=True)


def test_wide_form_of_several_states(write):
    file = write("t,x_a,v_a,x_b,v_b\n0,1,2,3,4\n1,5,,7,8\n")
    data = pn.read_csv(file, "t", ["x", "v"], wide=True)
    assert data.ids == ("a", "b")
    np.testing.assert_array_equal(data.y[0], [[1, 2], [5, np.nan]])
    np.testing.assert_array_equal(data.y[1], [[3, 4], [7, 8]])
    with pytest.raises(pn.TableError, match="needs columns such as p_1 and q_1"):
        pn.read_csv(file, "t", ["p", "q"], wide=True)


REPEATED = "t,id,x,u\n0,a,1,5\n0,a,3,5\n1,a,4,6\n1,a,,6\n2,a,7,7\n0,b,1,1\n1,b,2,1\n"


def test_replicates(write):
    file = write(REPEATED)
    with pytest.raises(pn.TableError, match=r"lines 2 and 3 have the same time t = 0: both belong to id 'a'.*average"):
        pn.read_csv(file, "t", "x", "id")
    kept = pn.read_csv(file, "t", "x", "id", replicates="keep")
    assert kept.repeated and kept.t[0].tolist() == [0, 0, 1, 1, 2] and kept.take([1]).repeated
    mean = pn.read_csv(file, "t", "x", "id", input="u", replicates="average")
    assert not mean.repeated and mean.t[0].tolist() == [0, 1, 2]
    assert mean.y[0][:, 0].tolist() == [2, 4, 7] and mean.signal.u[0][:, 0].tolist() == [5, 6, 7]
    with pytest.raises(pn.TableError, match="control inputs differ between readings at one time"):
        pn.read_csv(write(REPEATED.replace("0,a,3,5", "0,a,3,4")), "t", "x", "id", input="u", replicates="average")
    with pytest.raises(ValueError, match="replicates='mean' is not one of refuse, keep, average"):
        pn.read_csv(file, "t", "x", "id", replicates="mean")
    t = [0, 0, 1]
    with pytest.raises(ValueError, match=r"must increase strictly.*replicates="):
        pn.Trajectories.from_arrays(t, [1, 3, 4])
    assert pn.Trajectories.from_arrays(t, [1, 3, 4], replicates="keep").t[0].tolist() == t
    assert pn.Trajectories.from_arrays(t, [1, 3, 4], replicates="average").y[0][:, 0].tolist() == [2, 4]
    with pytest.raises(ValueError, match="t must not fall"):
        pn.Trajectories.from_arrays([0, 1, 0], [1, 3, 4], replicates="average")


# ---- Other files


def test_workbooks(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")
    file = tmp_path / "a.xlsx"
    frame = pandas.DataFrame({"when": pandas.date_range("2024-01-01", periods=len(Y), freq="h"), "T": Y})
    with pandas.ExcelWriter(file) as book:
        pandas.DataFrame({"notes": ["nothing"]}).to_excel(book, sheet_name="about", index=False)
        frame.to_excel(book, sheet_name="data", startrow=3, index=False)
    data = pn.read_csv(file, "when", "T")
    assert data.clock.unit == "h" and data.t[0].tolist() == list(range(len(Y)))
    np.testing.assert_allclose(data.y[0][:, 0], Y)
    with pytest.raises(pn.TableError, match=r"a.xlsx: no sheet 'results', only 'about', 'data'$"):
        pn.read_csv(file, "when", "T", sheet="results")


def test_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    file = tmp_path / "a.parquet"
    pandas.DataFrame({"t": T, "T": Y}).to_parquet(file)
    np.testing.assert_array_equal(pn.read_csv(file, "t", "T").y[0][:, 0], Y)


def test_other_files_without_pandas(write, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    for name in ("a.xlsx", "a.parquet"):
        with pytest.raises(ImportError, match="such files are read by pandas: pip install"):
            pn.read_csv(write("t,x\n", name=name), "t", "x")
    assert pn.read_csv(write("t,x\n0,1\n1,2\n"), "t", "x").lengths == (2,)


def test_stata(tmp_path):
    pandas = pytest.importorskip("pandas")
    file = tmp_path / "a.dta"
    pandas.DataFrame({"t": T, "T": Y}).to_stata(file)
    np.testing.assert_array_equal(pn.read_csv(file, "t", "T").y[0][:, 0], Y)


def test_nothing_is_said_of_good_tables(write):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pn.read_csv(write("t,T\n" + rows()), "t", "T")
