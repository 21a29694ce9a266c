/* What a linear connection's receivers get of the spikes of many trains, whatever kind of connection it is. */
#ifndef SNN_CONNECTION_H
#define SNN_CONNECTION_H

#include "linear.h"
#include "program.h"
#include "sparse.h"

/* totals[n] += W·(what train first + n·step holds), n < count: `totals` begins with the first train's. */
SNN_FUNCTION void snn_propagate(const snn_program *program, const snn_connection *c, const snn_workspace *w,
                                int32_t first, float *totals, int32_t count, int32_t step) {
    const int32_t size = program->header->row_size, *listed = w->listed + first;
    const int32_t *indices = w->indices + (ptrdiff_t)first * size;
    const float *sizes = snn_vector(w->sizes, first, size), *weights = program->parameters + c->weights;
    if (c->kind == SNN_SPARSE) {
        snn_propagate_sparse(weights, program->indices + c->starts, program->indices + c->columns, c->block, size,
                             indices, sizes, listed, totals, count, step);
    } else if (c->in_order) {
        snn_propagate_in_order(weights, c->stride, snn_columns(c), size, indices, sizes, listed, totals, count, step);
    } else {
        snn_propagate_linear(weights, c->stride, snn_columns(c), size, indices, sizes, listed, totals, count, step);
    }
}

/* What a connection's receivers have kept, or nothing where this decision derives it anew. */
SNN_FUNCTION void snn_begin_sums(const float *SNN_RESTRICT kept, int32_t n, int32_t anew, float *SNN_RESTRICT sums) {
    if (anew) {
        memset(sums, 0, (size_t)n * sizeof *sums);
    } else {
        memcpy(sums, kept, (size_t)n * sizeof *sums);
    }
}

#endif
