/* Connections that read a decision later: their receivers' sums, kept in the state from one decision to the next.
 *
 * Such a sum has two parts, (outputs,) each: W·(γ·m), which goes on, and W·((1 − γ)·m), which is of one decision alone.
 * A reader adds both as the decision before has left them; when all stages have sent, the sums follow.
 */
#ifndef SNN_DELAYED_H
#define SNN_DELAYED_H

#include "connection.h"

/* z += what one row's receivers have accumulated by the decision before. */
SNN_FUNCTION void snn_recall(const snn_connection *c, const float *state, float *SNN_RESTRICT z) {
    const float *SNN_RESTRICT kept = state + c->accumulator, *SNN_RESTRICT fresh = kept + c->outputs;
    int32_t k;
    for (k = 0; k < c->outputs; k++) {
        z[k] += kept[k] + fresh[k];
    }
}

/* The sums of a connection after a decision, for a block of rows; `slot` is the first train of what its source sent. */
SNN_FUNCTION void snn_accumulate(const snn_program *program, const snn_connection *c, float *state,
                                 const int32_t *anew, const snn_workspace *w, int32_t rows, int32_t slot) {
    const int32_t size = program->header->row_size, state_size = program->header->state_size;
    int32_t row;
    for (row = 0; row < rows; row++) {
        memset(snn_vector(w->totals, row, size), 0, (size_t)c->outputs * sizeof(float));
        snn_begin_sums(state + (ptrdiff_t)row * state_size + c->accumulator, c->outputs, anew[row],
                       snn_vector(w->totals, rows + row, size));
    }
    snn_propagate(program, c, w, slot, w->totals, 2 * rows, 1);
    for (row = 0; row < rows; row++) {
        float *own = state + (ptrdiff_t)row * state_size + c->accumulator;
        memcpy(own, snn_vector(w->totals, rows + row, size), (size_t)c->outputs * sizeof *own);
        memcpy(own + c->outputs, snn_vector(w->totals, row, size), (size_t)c->outputs * sizeof *own);
    }
}

/* Those of all delayed connections, when every stage has sent. */
SNN_FUNCTION void snn_accumulate_delayed(const snn_program *program, float *state, const snn_workspace *w,
                                         int32_t rows) {
    int32_t index, i;
    for (index = 1; index < program->header->stage_count; index++) {
        const snn_stage *stage = program->stages + index;
        for (i = 0; i < stage->connection_count; i++) {
            const snn_connection *c = program->connections + stage->first_connection + i;
            if (c->delayed) {
                snn_accumulate(program, c, state, w->anew, w, rows, program->stages[c->source].slot * 2 * rows);
            }
        }
    }
}

#endif
