/* pynode._core: the module, its state and its tables. */
#define PNPY_IMPORT_ARRAY
#include "python/pnpy.h"
#include "python/xla_call.h"

enum { MAX_THREADS = 4096 };

/* ---- tables ------------------------------------------------------------------------------------------------ */
static PyObject *make_ops(void) {
    static const struct {
        const char *name, *shape;
        int operands;
    } rows[] = {
#define PN_OP(name, shape, operands) {#name, #shape, operands},
#include "program/ops.def"
    };
    PyObject *ops = PyDict_New();
    for (int i = 0; ops && i < PN_N_OPS; i++) {
        PyObject *row = Py_BuildValue("{s:i,s:s,s:i}", "code", i, "shape", rows[i].shape, "operands", rows[i].operands);
        if (!row || PyDict_SetItemString(ops, rows[i].name, row) < 0) Py_CLEAR(ops);
        Py_XDECREF(row);
    }
    return ops;
}

static PyObject *make_statuses(void) {
    PyObject *list = PyList_New(PN_N_STATUS);
    for (int i = 0; list && i < PN_N_STATUS; i++) {
        PyObject *row = Py_BuildValue("(ss)", pn_status_name((pn_status)i), pn_status_message((pn_status)i));
        if (!row)
            Py_CLEAR(list);
        else
            PyList_SetItem(list, i, row);
    }
    return list;
}

static PyObject *make_isas(void) {
    PyObject *list = PyList_New(0), *result = NULL;
    for (int i = 0; list && i < PN_N_ISA; i++) {
        if (!pn_isa_available((pn_isa)i)) continue;
        PyObject *name = PyUnicode_FromString(pn_isa_name((pn_isa)i));
        if (!name || PyList_Append(list, name) < 0) Py_CLEAR(list);
        Py_XDECREF(name);
    }
    if (list) result = PyList_AsTuple(list);
    Py_XDECREF(list);
    return result;
}

/* ---- instruction set --------------------------------------------------------------------------------------- */
/* `source`: what to blame, "PYNODE_ISA" or "isa" */
static int choose_isa(pnpy_state *state, PyObject *name, const char *source) {
    for (int i = 0; i < PN_N_ISA; i++)
        if (pn_isa_available((pn_isa)i) && !PyUnicode_CompareWithASCIIString(name, pn_isa_name((pn_isa)i))) {
            atomic_store(&state->isa, i);
            return 0;
        }
    PyObject *isas = make_isas(), *comma = PyUnicode_FromString(", ");
    PyObject *text = isas && comma ? PyUnicode_Join(comma, isas) : NULL;
    if (text) PyErr_Format(PyExc_ValueError, "%s: %R is not available here; choose from %U", source, name, text);
    Py_XDECREF(text);
    Py_XDECREF(comma);
    Py_XDECREF(isas);
    return -1;
}

static PyObject *core_isa(PyObject *module, PyObject *Py_UNUSED(args)) {
    pnpy_state *state = PyModule_GetState(module);
    return PyUnicode_FromString(pn_isa_name((pn_isa)atomic_load(&state->isa)));
}

static PyObject *core_set_isa(PyObject *module, PyObject *name) {
    if (!PyUnicode_Check(name)) {
        pnpy_wrong_type("the name of an instruction set", "a string", name);
        return NULL;
    }
    if (choose_isa(PyModule_GetState(module), name, "isa") < 0) return NULL;
    Py_RETURN_NONE;
}

/* ---- threads ----------------------------------------------------------------------------------------------- */
static int choose_threads(pnpy_state *state, PyObject *number, const char *source) {
    PyObject *index = PyNumber_Index(number);
    if (!index) return -1;
    int overflow = 0;
    const long n = PyLong_AsLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow || n < 1 || n > MAX_THREADS) {
        PyErr_Format(PyExc_ValueError, "%s: the number of threads must be between 1 and %d, got %R", source, MAX_THREADS,
                     number);
        return -1;
    }
    atomic_store(&state->threads, (int)n);
    return 0;
}

static PyObject *core_num_threads(PyObject *module, PyObject *Py_UNUSED(args)) {
    pnpy_state *state = PyModule_GetState(module);
    return PyLong_FromLong(atomic_load(&state->threads));
}

static PyObject *core_set_num_threads(PyObject *module, PyObject *number) {
    if (choose_threads(PyModule_GetState(module), number, "n") < 0) return NULL;
    Py_RETURN_NONE;
}

/* The CPUs this process may use, else those of the machine, else 1. */
static int count_cpus(PyObject *os) {
    Py_ssize_t n = -1;
    PyObject *mask = PyObject_CallMethod(os, "sched_getaffinity", "i", 0);
    if (mask) n = PyObject_Length(mask);
    Py_XDECREF(mask);
    if (n < 0) {
        PyErr_Clear(); /* not on every system */
        PyObject *count = PyObject_CallMethod(os, "cpu_count", NULL);
        if (count && count != Py_None) n = PyLong_AsSsize_t(count);
        Py_XDECREF(count);
        PyErr_Clear();
    }
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : (int)n;
}

/* A variable of the environment, a new reference; NULL without an exception where it is not set or empty. */
static PyObject *environment(PyObject *os, const char *name) {
    PyObject *value = PyObject_CallMethod(os, "getenv", "s", name);
    if (value && (value == Py_None || PyObject_Length(value) == 0)) Py_CLEAR(value);
    return value;
}

static int read_environment(pnpy_state *state) {
    int good = -1;
    PyObject *isa = NULL, *threads = NULL, *number = NULL, *os = PyImport_ImportModule("os");
    if (!os) return -1;
    atomic_init(&state->isa, (int)pn_isa_best());
    atomic_init(&state->threads, count_cpus(os));
    isa = environment(os, "PYNODE_ISA");
    if ((!isa && PyErr_Occurred()) || (isa && choose_isa(state, isa, "PYNODE_ISA") < 0)) goto done;
    threads = environment(os, "PYNODE_NUM_THREADS");
    if (!threads && PyErr_Occurred()) goto done;
    if (threads) {
        number = PyNumber_Long(threads);
        if (!number) {
            PyErr_Format(PyExc_ValueError, "PYNODE_NUM_THREADS: %R is not a whole number", threads);
            goto done;
        }
        if (choose_threads(state, number, "PYNODE_NUM_THREADS") < 0) goto done;
    }
    good = 0;
done:
    Py_XDECREF(number);
    Py_XDECREF(threads);
    Py_XDECREF(isa);
    Py_DECREF(os);
    return good;
}

/* ---- the module -------------------------------------------------------------------------------------------- */
static int intern_names(pnpy_state *state) {
    static const char *const args[] = {
#define X(name) #name,
        PNPY_RUN_ARGUMENTS(X)};
    static const char *const outs[] = {PNPY_RESULTS(X)
#undef X
    };
    for (int i = 0; i < PNPY_N_ARGS; i++)
        if (!(state->arg_names[i] = PyUnicode_InternFromString(args[i]))) return -1;
    for (int i = 0; i < PNPY_N_OUTS; i++)
        if (!(state->out_names[i] = PyUnicode_InternFromString(outs[i]))) return -1;
    for (int i = 0; i < PN_N_ISA; i++)
        if (!(state->isa_names[i] = PyUnicode_InternFromString(pn_isa_name((pn_isa)i)))) return -1;
    return 0;
}

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec) {
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    if (type && PyModule_AddType(module, type) < 0) Py_CLEAR(type);
    return type;
}

/* steals value */
static int add(PyObject *module, const char *name, PyObject *value) {
    const int status = value ? PyModule_AddObjectRef(module, name, value) : -1;
    Py_XDECREF(value);
    return status;
}

static int core_exec(PyObject *module) {
    pnpy_state *state = PyModule_GetState(module);
    if (PyArray_ImportNumPyAPI() < 0) return -1;
    if (intern_names(state) < 0 || read_environment(state) < 0) return -1;
    if (!(state->program_type = add_type(module, &pnpy_program_spec))) return -1;
    if (!(state->tableau_type = add_type(module, &pnpy_tableau_spec))) return -1;
    if (!(state->problem_type = add_type(module, &pnpy_problem_spec))) return -1;
    if (!(state->results_type = add_type(module, &pnpy_results_spec))) return -1;
    if (!(state->tape_type = add_type(module, &pnpy_tape_spec))) return -1;
    if (!(state->xla_call_type = add_type(module, &pnpy_xla_call_spec))) return -1;
    if (add(module, "OPS", make_ops()) < 0 || add(module, "STATUS", make_statuses()) < 0 ||
        add(module, "ISAS", make_isas()) < 0)
        return -1;
    return 0;
}

static int core_traverse(PyObject *module, visitproc visit, void *arg) {
    pnpy_state *state = PyModule_GetState(module);
    Py_VISIT(state->program_type);
    Py_VISIT(state->tableau_type);
    Py_VISIT(state->problem_type);
    Py_VISIT(state->results_type);
    Py_VISIT(state->tape_type);
    Py_VISIT(state->xla_call_type);
    return 0;
}

static int core_clear(PyObject *module) {
    pnpy_state *state = PyModule_GetState(module);
    Py_CLEAR(state->program_type);
    Py_CLEAR(state->tableau_type);
    Py_CLEAR(state->problem_type);
    Py_CLEAR(state->results_type);
    Py_CLEAR(state->tape_type);
    Py_CLEAR(state->xla_call_type);
    for (int i = 0; i < PNPY_N_ARGS; i++) Py_CLEAR(state->arg_names[i]);
    for (int i = 0; i < PNPY_N_OUTS; i++) Py_CLEAR(state->out_names[i]);
    for (int i = 0; i < PN_N_ISA; i++) Py_CLEAR(state->isa_names[i]);
    return 0;
}

static void core_free(void *module) { core_clear(module); }

static PyMethodDef core_methods[] = {
    {"evaluate", (PyCFunction)(void (*)(void))pnpy_evaluate, METH_FASTCALL | METH_KEYWORDS,
     "evaluate($module, program, slots, thetas, /, callback=None)\n--\n\n"
     "Run a program once for a batch of samples: (outputs, grads)."},
    {"evaluate_row", (PyCFunction)(void (*)(void))pnpy_evaluate_row, METH_FASTCALL,
     "evaluate_row($module, program, slots, thetas, /)\n--\n\n"
     "The same for one sample, outputs (size,), if slots and parameters are arrays of float64 as they are (or numbers, in "
     "slots of size 1; or None, where the size is 0); else None."},
    {"isa", core_isa, METH_NOARGS,
     "isa($module, /)\n--\n\nThe instruction set in use.\n\n"
     "Returns\n-------\nstr\n    One of `pynode.ISAS`.\n\n"
     "See Also\n--------\nset_isa : uses another one.\n\n"
     "Examples\n--------\n>>> import pynode as pn\n>>> pn.isa() in pn.ISAS\nTrue\n"},
    {"set_isa", core_set_isa, METH_O,
     "set_isa($module, name, /)\n--\n\nUse another instruction set.\n\n"
     "At import it is that of the environment variable PYNODE_ISA, else the best.\n\n"
     "Parameters\n----------\nname : str\n    One of `pynode.ISAS`: those that the core was built for and this processor "
     "has.\n\n"
     "Raises\n------\nValueError\n    There is none of this name here.\n\n"
     "Examples\n--------\n>>> import pynode as pn\n>>> pn.set_isa(pn.isa())\n"},
    {"num_threads", core_num_threads, METH_NOARGS,
     "num_threads($module, /)\n--\n\nHow many threads a solve uses.\n\n"
     "Returns\n-------\nint\n\n"
     "See Also\n--------\nset_num_threads : sets it.\n\n"
     "Examples\n--------\n>>> import pynode as pn\n>>> pn.num_threads() >= 1\nTrue\n"},
    {"set_num_threads", core_set_num_threads, METH_O,
     "set_num_threads($module, n, /)\n--\n\nSet how many threads a solve uses, where it is not given `threads=`.\n\n"
     "At import it is the environment variable PYNODE_NUM_THREADS, else one for each CPU that the process may use.\n\n"
     "Parameters\n----------\nn : int\n    At least 1.\n\n"
     "Examples\n--------\n>>> import pynode as pn\n>>> pn.set_num_threads(pn.num_threads())\n"},
    {"xla_handlers", pnpy_xla_handlers, METH_O,
     "xla_handlers($module, minor, /)\n--\n\nName -> capsule of a handler for an XLA whose interface has this minor version; "
     "none "
     "where there are none for it."},
    {"tableaus", pnpy_tableaus, METH_NOARGS, "tableaus($module, /)\n--\n\nThe Runge-Kutta methods, a dict each."},
    {0},
};

static PyModuleDef_Slot core_slots[] = {
    {Py_mod_exec, core_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED}, /* NumPy is not either */
#endif
    {0, NULL},
};

static struct PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pynode._core",
    .m_doc = "The C core of pynode. Use the functions of pynode instead.",
    .m_size = sizeof(pnpy_state),
    .m_methods = core_methods,
    .m_slots = core_slots,
    .m_traverse = core_traverse,
    .m_clear = core_clear,
    .m_free = core_free,
};

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&core_module); }
