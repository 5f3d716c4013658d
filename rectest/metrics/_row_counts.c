/* How many candidates of its row score above, and at least as much as, each target, in one look at the scores.

   `counting.py` chooses between this and `pieces.py`, which counts the same in NumPy; `ranks.py` says what the counts
   mean. Nothing is allocated here, and whatever would lead outside of an array is refused before a score is read.
*/

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* One build for every x86-64 there is: the loader takes the wide registers where the machine has them. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__)
#define FOR_EACH_MACHINE __attribute__((target_clones("avx2", "default")))
#else
#define FOR_EACH_MACHINE
#endif

/* So many flags add up within 32 bits, of which a register holds twice as many as of 64. */
#define MOST_AT_ONCE ((Py_ssize_t)1 << 20)

typedef struct {
    int64_t above, at_least, not_finite;
} Counts;

typedef Counts Look(const char *scores, Py_ssize_t num, const char *mine);

#define LOOK(NAME, TYPE, ABSOLUTE, LARGEST)                                                                            \
    FOR_EACH_MACHINE static Counts NAME(const char *begin, Py_ssize_t num, const char *target)                         \
    {                                                                                                                  \
        const TYPE *scores = (const TYPE *)begin, mine = *(const TYPE *)target;                                        \
        Counts counts = {0, 0, 0};                                                                                     \
        while (num > 0) {                                                                                              \
            Py_ssize_t part = num < MOST_AT_ONCE ? num : MOST_AT_ONCE;                                                 \
            int32_t above = 0, at_least = 0, not_finite = 0;                                                           \
            for (Py_ssize_t at = 0; at < part; at++) {                                                                 \
                above += scores[at] > mine;                                                                            \
                at_least += scores[at] >= mine;                                                                        \
                not_finite += !(ABSOLUTE(scores[at]) <= LARGEST);                                                      \
            }                                                                                                          \
            counts.above += above;                                                                                     \
            counts.at_least += at_least;                                                                               \
            counts.not_finite += not_finite;                                                                           \
            scores += part;                                                                                            \
            num -= part;                                                                                               \
        }                                                                                                              \
        return counts;                                                                                                 \
    }

LOOK(look_at_floats, float, fabsf, FLT_MAX)
LOOK(look_at_doubles, double, fabs, DBL_MAX)

typedef struct {
    Py_buffer scores, row, column, out;
} Arrays;

static void release(Arrays *arrays)
{
    /* A buffer that was never obtained is all zero, and is left alone. */
    PyBuffer_Release(&arrays->scores);
    PyBuffer_Release(&arrays->row);
    PyBuffer_Release(&arrays->column);
    PyBuffer_Release(&arrays->out);
}

static int is_kind(const Py_buffer *buffer, int num_axes, const char *kinds, Py_ssize_t itemsize)
{
    const char *kind = buffer->format;
    Py_ssize_t last = num_axes - 1;
    return buffer->ndim == num_axes && kind != NULL && kind[0] != '\0' && kind[1] == '\0' &&
           strchr(kinds, kind[0]) != NULL && buffer->itemsize == itemsize &&
           (buffer->shape[last] < 2 || buffer->strides[last] == itemsize) &&
           (uintptr_t)buffer->buf % (size_t)itemsize == 0 && (buffer->shape[0] < 2 || buffer->strides[0] % itemsize == 0);
}

static const char *what_is_wrong(const Arrays *arrays, Py_ssize_t first_column)
{
    const Py_buffer *scores = &arrays->scores;
    if (!is_kind(scores, 2, "f", sizeof(float)) && !is_kind(scores, 2, "d", sizeof(double)))
        return "scores must be aligned float32[B, C] or float64[B, C] whose rows are contiguous";
    if (!is_kind(&arrays->row, 1, "lq", sizeof(int64_t)) || !is_kind(&arrays->column, 1, "lq", sizeof(int64_t)) ||
        !is_kind(&arrays->out, 2, "lq", sizeof(int64_t)))
        return "row and column must be int64[T], out int64[2, T]";
    Py_ssize_t num = arrays->row.shape[0];
    if (arrays->column.shape[0] != num || arrays->out.shape[0] != 2 || arrays->out.shape[1] != num)
        return "row, column and out are not of the same number of targets";
    if (first_column < 0 || first_column > scores->shape[1])
        return "first_column is no column of the scores";
    const int64_t *row = arrays->row.buf, *column = arrays->column.buf;
    for (Py_ssize_t at = 0; at < num; at++)
        if (row[at] < (at ? row[at - 1] : 0) || row[at] >= scores->shape[0] || column[at] < 0 ||
            column[at] >= scores->shape[1])
            return "targets must be sorted by row, and stand within the scores";
    return NULL;
}

/* How many candidates are not finite; -1 where a column was changed, by `out` or another thread, since it was checked. */
static int64_t count(const Arrays *arrays, Py_ssize_t first_column)
{
    const Py_buffer *scores = &arrays->scores;
    const int64_t *row = arrays->row.buf, *column = arrays->column.buf;
    int64_t *above = arrays->out.buf, *at_least = (int64_t *)((char *)arrays->out.buf + arrays->out.strides[0]);
    Py_ssize_t num_targets = arrays->row.shape[0], num_candidates = scores->shape[1] - first_column, target = 0;
    Look *look = scores->itemsize == sizeof(float) ? look_at_floats : look_at_doubles;
    int64_t num_bad = 0;
    for (Py_ssize_t at = 0; at < scores->shape[0]; at++) {
        const char *all = (const char *)scores->buf + at * scores->strides[0];
        const char *candidates = all + first_column * scores->itemsize;
        Counts counts = {0, 0, -1};
        for (; target < num_targets && row[target] == at; target++) {
            int64_t mine = column[target];
            if (mine < 0 || mine >= scores->shape[1])
                return -1;
            counts = look(candidates, num_candidates, all + mine * scores->itemsize);
            above[target] = counts.above;
            at_least[target] = counts.at_least;
        }
        if (counts.not_finite < 0)
            counts = num_candidates > 0 ? look(candidates, num_candidates, candidates) : (Counts){0, 0, 0};
        num_bad += counts.not_finite;
    }
    return num_bad;
}

PyDoc_STRVAR(count_rows_doc,
"count_rows(scores, row, column, out, first_column)\n"
"--\n\n"
"Write the candidates above and at least as high as each target to `out`; return how many are not finite.\n\n"
"`scores` is float32 or float64 [B, C] with contiguous rows, of which the columns from `first_column` on are\n"
"candidates; targets are int64[T], sorted by row; `out` is int64[2, T]. Anything else is a `ValueError`.");

static PyObject *count_rows(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *scores, *row, *column, *out;
    Py_ssize_t first_column;
    Arrays arrays = {0};
    PyObject *found = NULL;
    if (!PyArg_ParseTuple(args, "OOOOn:count_rows", &scores, &row, &column, &out, &first_column))
        return NULL;
    const int strided = PyBUF_STRIDES | PyBUF_FORMAT;
    if (PyObject_GetBuffer(scores, &arrays.scores, strided) == 0 && PyObject_GetBuffer(row, &arrays.row, strided) == 0 &&
        PyObject_GetBuffer(column, &arrays.column, strided) == 0 &&
        PyObject_GetBuffer(out, &arrays.out, strided | PyBUF_WRITABLE) == 0) {
        const char *wrong = what_is_wrong(&arrays, first_column);
        if (wrong != NULL)
            PyErr_SetString(PyExc_ValueError, wrong);
        else {
            int64_t num_bad;
            Py_BEGIN_ALLOW_THREADS
            num_bad = count(&arrays, first_column);
            Py_END_ALLOW_THREADS
            if (num_bad < 0)
                PyErr_SetString(PyExc_ValueError, "column must not change while it is read");
            else
                found = PyLong_FromLongLong(num_bad);
        }
    }
    release(&arrays);
    return found;
}

static PyMethodDef methods[] = {
    {"count_rows", count_rows, METH_VARARGS, count_rows_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "rectest.metrics._row_counts",
    .m_doc = "Counts of the candidates above each target, compiled; `rectest.metrics.counting` is what to use.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__row_counts(void)
{
    return PyModuleDef_Init(&definition);
}
