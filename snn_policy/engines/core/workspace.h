/* How much scratch a block of rows needs, and where in it everything lies. */
#ifndef SNN_WORKSPACE_H
#define SNN_WORKSPACE_H

#include "program.h"

SNN_FUNCTION int64_t snn_workspace_floats(const snn_header *header, int32_t rows) {
    return (SNN_WORK_ROWS + 2 * (int64_t)rows + 2 * (int64_t)rows * snn_trains_per_row(header)) * header->row_size;
}

SNN_FUNCTION int64_t snn_workspace_integers(const snn_header *header, int32_t rows) {
    const int64_t trains = (int64_t)rows * snn_trains_per_row(header);
    return trains * header->row_size + trains + rows;
}

SNN_FUNCTION snn_workspace snn_lay_out(const snn_header *header, int32_t rows, float *floats, int32_t *integers) {
    const ptrdiff_t size = header->row_size, trains = (ptrdiff_t)rows * snn_trains_per_row(header);
    snn_workspace w;
    w.work = floats;
    w.values = w.work + SNN_WORK_ROWS * size;
    w.totals = w.values + 2 * rows * size;
    w.sizes = w.totals + trains * size;
    w.indices = integers;
    w.listed = integers + trains * size;
    w.anew = w.listed + trains;
    return w;
}

#endif
