/* One decision of a block of rows with sigma-delta neurons, stage by stage (docs/methods.md §1).
 *
 * Receivers keep two sums: one that persists, of neurons with γ = 1, and one of this decision alone, of those with
 * γ = 0. In a slot of R rows, trains 0 … R−1 feed the latter and R … 2R−1 the former. A slot keeps what a stage has sent
 * until all that read it have done so; who reads a decision later (`delayed.h`) does at the end of this one.
 */
#ifndef SNN_SIGMA_DELTA_DECISION_H
#define SNN_SIGMA_DELTA_DECISION_H

#include "cell.h"
#include "connection.h"
#include "convolution.h"
#include "fan_out.h"
#include "head.h"
#include "listing.h"
#include "sigma_delta.h"

#if !defined(SNN_WITHOUT_DELAYED)
#include "delayed.h"
#endif

/* v ← h − c − γ·m, m ← γ·m */
SNN_FUNCTION void snn_owed(const float *SNN_RESTRICT h, const float *SNN_RESTRICT gamma,
                           const float *SNN_RESTRICT offset, int32_t n, float *SNN_RESTRICT memory,
                           float *SNN_RESTRICT v) {
    int32_t j;
    if (offset != NULL) {
        for (j = 0; j < n; j++) {
            const float kept = gamma[j] * memory[j];
            memory[j] = kept;
            v[j] = h[j] - offset[j] - kept;
        }
        return;
    }
    for (j = 0; j < n; j++) {
        const float kept = gamma[j] * memory[j];
        memory[j] = kept;
        v[j] = h[j] - kept;
    }
}

/* v ← v + α·r; then r ← v within ±q where the neuron stays silent and v is not tiny, else 0. Bits of
 * floats that are not negative compare as the floats do. */
SNN_FUNCTION void snn_carry(float alpha, const float *SNN_RESTRICT quantum, const float *SNN_RESTRICT unit, int32_t n,
                            float *SNN_RESTRICT residual, float *SNN_RESTRICT v) {
    int32_t j;
    for (j = 0; j < n; j++) {
        const float owed = v[j] + alpha * residual[j];
        const int32_t bits = snn_bits(owed), size = bits & SNN_MAGNITUDE_BITS, most = snn_bits(quantum[j]);
        const int32_t left = (size < most ? size : most) | (bits & ~SNN_MAGNITUDE_BITS);
        const int32_t keeps = size < snn_bits(unit[j]) && size >= snn_bits(quantum[j] * SNN_LEAST_RESIDUAL) ? -1 : 0;
        v[j] = owed;
        residual[j] = snn_from_bits(left & keeps);
    }
}

/* Collect what `snn_encode` works on, followed by dead neurons up to a whole vector; returns the padded number. */
SNN_FUNCTION int32_t snn_gather(const float *SNN_RESTRICT v, const float *SNN_RESTRICT quantum,
                                const float *SNN_RESTRICT unit, const int32_t *SNN_RESTRICT list, int32_t count,
                                const snn_reached *r) {
    const int32_t padded = (count + SNN_LANES - 1) / SNN_LANES * SNN_LANES;
    int32_t i;
    for (i = 0; i < count; i++) {
        r->v[i] = v[list[i]];
        r->quantum[i] = quantum[list[i]];
        r->unit[i] = unit[list[i]];
    }
    for (; i < padded; i++) {
        r->v[i] = 0.0f;
        r->quantum[i] = 0.0f;
        r->unit[i] = snn_from_bits(SNN_INFINITY_BITS);
    }
    return padded;
}

/* Which neurons reach their unit, gathered for `snn_encode`; `padded` is what it is to look at. `v` is scratch. */
SNN_FUNCTION int32_t snn_find_reached(const float *h, const float *gamma, const float *offset, const float *quantum,
                                      const float *unit, float alpha, int32_t n, float *memory, float *residual,
                                      float *v, int32_t *list, const snn_reached *r, int32_t *padded) {
    int32_t count;
    snn_owed(h, gamma, offset, n, memory, v);
    if (residual != NULL) {
        snn_carry(alpha, quantum, unit, n, residual, v);
    }
    count = snn_list_reached(v, unit, n, list);
    *padded = snn_gather(v, quantum, unit, list, count, r);
    return count;
}

#if defined(SNN_SCALAR)
/* As `snn_find_reached`, of neurons that have no offset and carry a residual: one pass, which leaves out most of the
 * work where nothing is owed. */
SNN_APART int32_t snn_find_reached_at_once(const float *SNN_RESTRICT h, const float *SNN_RESTRICT gamma,
                                           const float *SNN_RESTRICT quantum, const float *SNN_RESTRICT unit,
                                           float alpha, int32_t n, float *SNN_RESTRICT memory,
                                           float *SNN_RESTRICT residual, int32_t *SNN_RESTRICT list,
                                           const snn_reached *r){
    int32_t count = 0, j;
    for (j = 0; j < n; j++) {
        const float kept = gamma[j] * memory[j], owed = (h[j] - kept) + alpha * residual[j];
        const uint32_t bits = (uint32_t)snn_bits(owed), size = bits & SNN_MAGNITUDE_BITS;
        const uint32_t least = (uint32_t)snn_bits(unit[j]);
        memory[j] = kept;
        residual[j] = 0.0f;
        if (size == 0) {
            continue;
        }
        if (size - least <= SNN_INFINITY_BITS - least) { /* neither less nor NaN */
            r->v[count] = owed;
            r->quantum[count] = quantum[j];
            r->unit[count] = unit[j];
            list[count++] = j;
        } else if (size < least && size >= (uint32_t)snn_bits(quantum[j] * SNN_LEAST_RESIDUAL)) {
            const uint32_t most = (uint32_t)snn_bits(quantum[j]);
            const uint32_t left = (size < most ? size : most) | (bits & ~(uint32_t)SNN_MAGNITUDE_BITS);
            residual[j] = snn_from_bits((int32_t)left);
        }
    }
    return count;
}
#endif

/* Add what was sent to the memories; neurons with γ = 1 go to the second list, the others stay in the first. */
SNN_FUNCTION void snn_part(const float *SNN_RESTRICT sent, const float *SNN_RESTRICT gamma, int32_t count,
                           float *SNN_RESTRICT memory, int32_t *fresh, float *SNN_RESTRICT fresh_sizes,
                           int32_t *kept, float *SNN_RESTRICT kept_sizes, int32_t *fresh_count, int32_t *kept_count) {
    int32_t first = 0, second = 0, i;
    for (i = 0; i < count; i++) {
        const int32_t j = fresh[i], keeps = gamma[j] != 0.0f ? 1 : 0;
        memory[j] += sent[i];
        fresh[first] = j;
        fresh_sizes[first] = sent[i];
        kept[second] = j;
        kept_sizes[second] = sent[i];
        first += 1 - keeps;
        second += keeps;
    }
    *fresh_count = first;
    *kept_count = second;
}

/* A stage of one row: from its values h to its memory, its two trains and its counts. */
SNN_FUNCTION void snn_send(const snn_program *program, int32_t index, const float *h, float *state, int anew,
                           const snn_workspace *w, int32_t fresh, int32_t kept, int64_t *counts) {
    const snn_header *header = program->header;
    const snn_stage *stage = program->stages + index;
    const int32_t n = stage->width, size = header->row_size, spiking = snn_spiking_stages(header);
    const float *quantum = program->parameters + stage->neurons, *unit = quantum + n, *gamma = unit + n;
    const float *offset = stage->offset < 0 ? NULL : program->parameters + stage->offset;
    float *memory = state + stage->memory, *v = w->work;
    float *residual = stage->residual < 0 ? NULL : state + stage->residual;
    int32_t *fresh_list = w->indices + (ptrdiff_t)fresh * size, *kept_list = w->indices + (ptrdiff_t)kept * size;
    float *kept_sizes = snn_vector(w->sizes, kept, size);
    snn_reached r;
    int32_t count, padded, spikes, coarse;
    r.v = snn_vector(w->work, 1, size);
    r.quantum = snn_vector(w->work, 2, size);
    r.unit = snn_vector(w->work, 3, size);
    r.sent = snn_vector(w->work, 4, size);
    r.fired = kept_list; /* read before the list is made */
#if defined(SNN_SCALAR)
    if (offset == NULL && residual != NULL) {
        count = padded = snn_find_reached_at_once(h, gamma, quantum, unit, stage->alpha, n, memory, residual,
                                                  fresh_list, &r);
    } else
#endif
    {
        count = snn_find_reached(h, gamma, offset, quantum, unit, stage->alpha, n, memory, residual, v, fresh_list,
                                 &r, &padded);
    }
    spikes = snn_encode(header, program->parameters, &r, padded, stage->digits, &coarse);
    counts[index] = spikes;
    counts[spiking + index] = count;
    counts[2 * spiking + SNN_EVENTS] += stage->fan_out < 0
        ? (int64_t)count * stage->uniform_fan_out
        : snn_synapses(program->parameters + stage->fan_out, fresh_list, NULL, count);
    counts[2 * spiking + SNN_OPERATIONS] += stage->fan_out < 0
        ? (int64_t)spikes * stage->uniform_fan_out
        : snn_synapses(program->parameters + stage->fan_out, fresh_list, r.fired, count);
    if (coarse) {
        state[header->age] = (float)header->rederive_after;
    }
    snn_part(r.sent, gamma, count, memory, fresh_list, snn_vector(w->sizes, fresh, size), kept_list, kept_sizes,
             &w->listed[fresh], &w->listed[kept]);
    if (anew) { /* all that receivers with γ = 1 are to know */
        int32_t j;
        for (j = 0; j < n; j++) {
            v[j] = memory[j] * gamma[j];
        }
        w->listed[kept] = snn_list_spikes(v, n, kept_list, kept_sizes);
    }
}

/* A linear connection's share of z for a block of rows; the sums that persist go through scratch, padded. */
SNN_FUNCTION void snn_receive_linear(const snn_program *program, const snn_connection *c, float *state,
                                     const int32_t *anew, const snn_workspace *w, int32_t rows, int32_t slot) {
    const int32_t size = program->header->row_size, state_size = program->header->state_size;
    int32_t row, k;
    for (row = 0; row < rows; row++) {
        snn_begin_sums(state + (ptrdiff_t)row * state_size + c->accumulator, c->outputs, anew[row],
                       snn_vector(w->totals, row, size));
    }
    snn_propagate(program, c, w, slot, w->values + c->into, rows, 1);
    snn_propagate(program, c, w, slot + rows, w->totals, rows, 1);
    for (row = 0; row < rows; row++) {
        float *SNN_RESTRICT after = state + (ptrdiff_t)row * state_size + c->accumulator;
        float *SNN_RESTRICT z = snn_vector(w->values, row, size) + c->into;
        const float *SNN_RESTRICT sums = snn_vector(w->totals, row, size);
        for (k = 0; k < c->outputs; k++) {
            after[k] = sums[k];
            z[k] += sums[k];
        }
    }
}

/* A convolution's share of z of one row; the sums that persist are its own, position by position. */
SNN_FUNCTION void snn_receive_convolution(const snn_program *program, const snn_connection *c, float *state, int anew,
                                          const snn_workspace *w, int32_t fresh, int32_t kept, float *z) {
    const int32_t size = program->header->row_size, sums_size = snn_sums_size(c);
    const float *weights = program->parameters + c->weights;
    float *received = state + c->accumulator, *image = snn_vector(w->work, 7, size), *sums = snn_vector(w->work, 8, size);
    if (anew) {
        memset(received, 0, (size_t)sums_size * sizeof *received);
    }
    snn_convolve(c, weights, w->indices + (ptrdiff_t)kept * size, snn_vector(w->sizes, kept, size), w->listed[kept],
                 image, received);
    memcpy(sums, received, (size_t)sums_size * sizeof *sums);
    snn_convolve(c, weights, w->indices + (ptrdiff_t)fresh * size, snn_vector(w->sizes, fresh, size), w->listed[fresh],
                 image, sums);
    snn_add_channels(c, sums, z);
}

/* Entries of what a stage has sent, as they are: no weights, and no sums that could carry rounding. */
SNN_FUNCTION void snn_receive_selected(const snn_program *program, const snn_connection *c, const float *state,
                                       float *SNN_RESTRICT z) {
    const float *SNN_RESTRICT memory = state + program->stages[c->source].memory;
    const int32_t *SNN_RESTRICT entry = program->indices + c->columns;
    int32_t k;
    for (k = 0; k < c->outputs; k++) {
        z[k] += memory[entry[k]];
    }
}

/* A connection's share of one row's z, where rows are worked through one by one. */
SNN_FUNCTION void snn_receive_row(const snn_program *program, const snn_connection *c, float *state, int anew,
                                  const snn_workspace *w, int32_t fresh, int32_t kept, float *z) {
#if !defined(SNN_WITHOUT_DELAYED)
    if (c->delayed) {
        snn_recall(c, state, z);
        return;
    }
#endif
    if (c->kind == SNN_SELECT) {
        snn_receive_selected(program, c, state, z);
    } else {
        snn_receive_convolution(program, c, state, anew, w, fresh, kept, z);
    }
}

/* z of a stage from what its sources sent, then its cell. */
SNN_FUNCTION void snn_receive(const snn_program *program, int32_t index, float *state, const snn_workspace *w,
                              int32_t rows) {
    const snn_stage *stage = program->stages + index;
    const int32_t size = program->header->row_size, state_size = program->header->state_size;
    int32_t row, i;
    for (row = 0; row < rows; row++) {
        memcpy(snn_vector(w->values, row, size), program->parameters + stage->bias, (size_t)stage->z_width * sizeof(float));
    }
    for (i = 0; i < stage->connection_count; i++) {
        const snn_connection *c = program->connections + stage->first_connection + i;
        const int32_t slot = program->stages[c->source].slot * 2 * rows;
        if (!c->delayed && (c->kind == SNN_LINEAR || c->kind == SNN_SPARSE)) {
            snn_receive_linear(program, c, state, w->anew, w, rows, slot);
            continue;
        }
        for (row = 0; row < rows; row++) {
            snn_receive_row(program, c, state + (ptrdiff_t)row * state_size, w->anew[row], w, slot + row,
                            slot + rows + row, snn_vector(w->values, row, size) + c->into);
        }
    }
    for (row = 0; row < rows; row++) {
        snn_advance(program, stage, snn_vector(w->values, row, size), state + (ptrdiff_t)row * state_size);
    }
}

/* One decision of `rows` rows, whose observations are in `w->values`; `state` and `counts` (rows, …) go on. */
SNN_FUNCTION void snn_decide_sigma_delta(const snn_program *program, float *state, const snn_workspace *w, int32_t rows,
                                         float *actions, int64_t *counts) {
    const snn_header *header = program->header;
    const int32_t size = header->row_size, state_size = header->state_size, last = header->stage_count - 1;
    const int32_t count_size = snn_count_size(header);
    int32_t *anew = w->anew;
    int32_t row, index;
    for (row = 0; row < rows; row++) {
        float *own = state + (ptrdiff_t)row * state_size;
        anew[row] = own[header->age] >= (float)header->rederive_after ? 1 : 0;
        if (header->stale >= 0) {
            anew[row] |= own[header->stale] != 0.0f ? 1 : 0;
            own[header->stale] = 0.0f;
        }
        own[header->age] = anew[row] ? 0.0f : own[header->age] + 1.0f;
        snn_normalise(program, snn_vector(w->values, row, size));
    }
    for (index = 0; index < last; index++) {
        const int32_t slot = program->stages[index].slot * 2 * rows;
        for (row = 0; row < rows; row++) {
            snn_send(program, index, snn_vector(w->values, row, size), state + (ptrdiff_t)row * state_size, anew[row],
                     w, slot + row, slot + rows + row, counts + (ptrdiff_t)row * count_size);
        }
        snn_receive(program, index + 1, state, w, rows);
    }
#if !defined(SNN_WITHOUT_DELAYED)
    snn_accumulate_delayed(program, state, w, rows);
#endif
    for (row = 0; row < rows; row++) {
        snn_apply_head(program, snn_vector(w->values, row, size), actions + (ptrdiff_t)row * header->action_size);
    }
}

#endif
