/* One decision of a block of rows, whatever the neurons, and what it adds to the sums since each row's reset. */
#ifndef SNN_DECIDE_H
#define SNN_DECIDE_H

#include "program.h"

#if !defined(SNN_WITHOUT_SIGMA_DELTA)
#include "sigma_delta_decision.h"
#endif
#if !defined(SNN_WITHOUT_MEMBRANES)
#include "membrane_decision.h"
#endif

SNN_FUNCTION void snn_tally(const snn_header *header, int64_t *counts) {
    const int32_t spiking = snn_spiking_stages(header);
    int64_t *costs = counts + 2 * spiking, *sums = costs + SNN_SUMS;
    int32_t stage, cost;
    costs[SNN_MACS] = header->macs;
    costs[SNN_DECISIONS] += 1;
    for (stage = 0; stage < spiking; stage++) {
        sums[stage] += counts[stage];
    }
    for (cost = 0; cost < SNN_DECISIONS; cost++) {
        sums[spiking + cost] += costs[cost];
    }
}

/* `w->values` holds the rows' observations; `state` and `counts` (rows, …) go on, `actions` (rows, …) are filled. */
SNN_FUNCTION void snn_decide(const snn_program *program, float *state, const snn_workspace *w, int32_t rows,
                             float *actions, int64_t *counts) {
    const snn_header *header = program->header;
    const int32_t count_size = snn_count_size(header), spiking = snn_spiking_stages(header);
    int32_t row;
    for (row = 0; row < rows; row++) {
        counts[(ptrdiff_t)row * count_size + 2 * spiking + SNN_EVENTS] = 0;
        counts[(ptrdiff_t)row * count_size + 2 * spiking + SNN_OPERATIONS] = 0;
    }
#if !defined(SNN_WITHOUT_SIGMA_DELTA)
    if (header->neuron == SNN_SIGMA_DELTA) {
        snn_decide_sigma_delta(program, state, w, rows, actions, counts);
    }
#endif
#if !defined(SNN_WITHOUT_MEMBRANES)
    if (header->neuron != SNN_SIGMA_DELTA) {
        snn_decide_membrane(program, state, w, rows, actions, counts);
    }
#endif
    for (row = 0; row < rows; row++) {
        snn_tally(header, counts + (ptrdiff_t)row * count_size);
    }
}

#endif
