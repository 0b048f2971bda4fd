/* The Python module: a set of what nobody wants, and the pass that knows it. Python's stable interface of 3.11, so one build serves all.
 *
 * No Py_RETURN_TRUE and its like: in the headers of 3.12 and newer they count no reference, which 3.11 must have. Functions count for whom they run in. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <string.h>

#include "dull.h"
#include "masks.h"
#include "text.h"

#define LONG_BYTES (1 << 20) /* a text over which other threads may run meanwhile */

typedef struct {
    PyObject_HEAD
    Dull *dull;
    Py_ssize_t readers; /* passes that go on without the interpreter's lock; while there are any, nothing is added */
} Skimmer;

static PyObject *skimmer_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    if (PyTuple_Size(args) != 0 || (named != NULL && PyDict_Size(named) != 0)) {
        PyErr_SetString(PyExc_TypeError, "Skimmer takes no arguments");
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Skimmer *self = (Skimmer *)allocate(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->dull = dull_new();
    if (self->dull == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void skimmer_dealloc(Skimmer *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    if (self->dull != NULL) {
        dull_free(self->dull);
    }
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* Copies a string behind those before it, None as an absent text. 0 where it has no room, -1 with an error set. */
static int take(PyObject *told, uint8_t *bytes, size_t *used, Text *text) {
    Py_ssize_t length;
    if (told == Py_None) {
        *text = (Text){0};
        return 1;
    }
    const char *encoded = PyUnicode_AsUTF8AndSize(told, &length);
    if (encoded == NULL) {
        return -1;
    }
    if ((size_t)length > TEXT_MARGIN + DULL_LONGEST - *used) {
        return 0;
    }
    memcpy(bytes + *used, encoded, (size_t)length);
    *text = (Text){.at = bytes + *used, .length = (uint32_t)length};
    *used += (size_t)length;
    return 1;
}

static PyObject *skimmer_add(Skimmer *self, PyObject *args) {
    PyObject *told[3];
    uint8_t bytes[TEXT_MARGIN + DULL_LONGEST];
    size_t used = TEXT_MARGIN;
    Event event;
    Text *texts[3] = {&event.source, &event.name, &event.kind};
    if (!PyArg_ParseTuple(args, "OUO:add", &told[0], &told[1], &told[2])) {
        return NULL;
    }
    if (self->readers != 0) {
        return PyBool_FromLong(0);
    }
    for (int i = 0; i < 3; i++) {
        const int taken = take(told[i], bytes, &used, texts[i]);
        if (taken < 0) {
            if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
                return NULL;
            }
            PyErr_Clear(); /* a lone surrogate stands in no text that is skimmed */
        }
        if (taken <= 0) {
            return PyBool_FromLong(1);
        }
    }
    if (!dull_add(self->dull, &event)) {
        return PyErr_NoMemory();
    }
    return PyBool_FromLong(1);
}

static PyObject *listed(const Found *found) {
    PyObject *items = PyList_New((Py_ssize_t)found->count);
    for (size_t i = 0; items != NULL && i < found->count; i++) {
        const Item item = found->items[i];
        PyObject *told = Py_BuildValue("nnn", (Py_ssize_t)item.number, (Py_ssize_t)item.begin, (Py_ssize_t)item.end);
        if (told == NULL || PyList_SetItem(items, (Py_ssize_t)i, told) < 0) {
            Py_CLEAR(items);
        }
    }
    return items == NULL ? NULL : Py_BuildValue("nN", (Py_ssize_t)found->records, items);
}

/* While a long text is skimmed other threads run, which must not change it. */
static PyObject *skimmer_skim(Skimmer *self, PyObject *args) {
    Py_buffer text;
    Py_ssize_t most;
    Found found = {0};
    Outcome skimmed;
    if (!PyArg_ParseTuple(args, "y*n:skim", &text, &most)) {
        return NULL;
    }
    const size_t size = (size_t)text.len, allowed = most < 0 ? 0 : (size_t)most;
    if (text.len < LONG_BYTES) {
        skimmed = skim_text(text.buf, size, self->dull, allowed, &found);
    } else {
        self->readers++;
        Py_BEGIN_ALLOW_THREADS
        skimmed = skim_text(text.buf, size, self->dull, allowed, &found);
        Py_END_ALLOW_THREADS
        self->readers--;
    }
    PyBuffer_Release(&text);
    PyObject *told = NULL;
    if (skimmed == SKIM_DONE) {
        told = listed(&found);
    } else if (skimmed == SKIM_NO_MEMORY) {
        PyErr_NoMemory();
    } else {
        Py_INCREF(Py_None);
        told = Py_None;
    }
    free(found.items);
    return told;
}

static PyMethodDef skimmer_methods[] = {
    {"add", (PyCFunction)skimmer_add, METH_VARARGS, "add(source, name, kind): nobody wants such a record. False while a long text is skimmed: not now."},
    {"skim", (PyCFunction)skimmer_skim, METH_VARARGS, "skim(text, most): (records, [(number, begin, end)]), or None."},
    {0},
};

static PyType_Slot skimmer_slots[] = {
    {Py_tp_doc, "What nobody wants, and a pass over texts that leaves it out."},
    {Py_tp_new, (void *)skimmer_new},
    {Py_tp_dealloc, (void *)skimmer_dealloc},
    {Py_tp_methods, skimmer_methods},
    {0},
};

static PyType_Spec skimmer_spec = {
    .name = "worker.ingest.skim._skim.Skimmer",
    .basicsize = sizeof(Skimmer),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = skimmer_slots,
};

static int fill(PyObject *module) {
    if (!processor_has_what_it_takes()) {
        PyErr_SetString(PyExc_ImportError, "this processor has no AVX2");
        return -1;
    }
    PyObject *type = PyType_FromSpec(&skimmer_spec);
    const int added = type == NULL ? -1 : PyModule_AddObjectRef(module, "Skimmer", type);
    Py_XDECREF(type);
    return added;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, (void *)fill}, {0}};

static PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_skim",
    .m_doc = "Reads plain CloudTrail texts in one pass.",
    .m_size = 0,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__skim(void) { return PyModuleDef_Init(&module); }
