/* One decision of a block of rows with IF, SNM or MT neurons, layer by layer: all timesteps of a layer, then the next.
 *
 * Equations: docs/methods.md §1 (neurons, codings), §2 (CRPI), §5 and §6 (spike calibration). Timestep t of a block's
 * row r is train r·T + t. The observation is analog: its one train holds its values.
 */
#ifndef SNN_MEMBRANE_DECISION_H
#define SNN_MEMBRANE_DECISION_H

#include "calibration.h"
#include "connection.h"
#include "convolution.h"
#include "fan_out.h"
#include "head.h"
#include "listing.h"
#include "membrane.h"

/* CRPI: v[0] = share·θ + clip(α·r, ±c·θ) */
SNN_FUNCTION void snn_start_potential(const snn_header *header, float alpha, const float *SNN_RESTRICT threshold,
                                      const float *SNN_RESTRICT residual, float *SNN_RESTRICT start, int32_t n) {
    const float share = header->start_share, bound = header->bound;
    int32_t k;
    for (k = 0; k < n; k++) {
        const float reach = bound * threshold[k];
        start[k] = share * threshold[k] + snn_min(snn_max(alpha * residual[k], -reach), reach);
    }
}

/* CRPI: r = v[T] − v[0], at least −M where bounded */
SNN_FUNCTION void snn_residual(const snn_header *header, const float *SNN_RESTRICT v, const float *SNN_RESTRICT start,
                               const float *SNN_RESTRICT net, float *SNN_RESTRICT residual, int32_t n) {
    int32_t k;
    for (k = 0; k < n; k++) {
        const float difference = v[k] - start[k];
        residual[k] = header->bounded ? snn_max(difference, -net[k]) : difference;
    }
}

SNN_FUNCTION int32_t snn_count_spikes(const float *output, int32_t n) {
    int32_t count = 0, k;
    for (k = 0; k < n; k++) {
        count += output[k] != 0.0f ? 1 : 0;
    }
    return count;
}

/* Set `sent` of the neurons that spike: in the end, of those with a spike in this decision. */
SNN_FUNCTION void snn_note_events(const float *SNN_RESTRICT output, float *SNN_RESTRICT sent, int32_t n) {
    int32_t k;
    for (k = 0; k < n; k++) {
        sent[k] = output[k] != 0.0f ? 1.0f : sent[k];
    }
}

#if defined(SNN_VECTOR)
/* `snn_run_layer` for IF neurons under rate coding; spikes replace the drive's vectors, timestep by timestep. */
SNN_FUNCTION int32_t snn_run_if_layer(const snn_header *header, float *drive, int constant, const float *threshold,
                                      const float *start, const snn_membranes *m, float *decoded, float *sent,
                                      const snn_workspace *w, int listing, int32_t first, int32_t n) {
    const int32_t size = header->row_size, timesteps = header->timesteps;
    const ptrdiff_t pitch = constant ? 0 : size;
    float *output = listing ? drive : NULL;
    int32_t done, spikes, t, k;
    memcpy(m->v, start, (size_t)n * sizeof(float));
    spikes = snn_run_if_registers(drive, pitch, threshold, timesteps, m->v, m->net, output, size, n, &done);
    spikes += snn_run_if_rest(drive, pitch, threshold, timesteps, m->v, m->net, output, size, done, n);
    for (t = 0; listing && t < timesteps; t++) {
        w->listed[first + t] = snn_list_spikes(output + (ptrdiff_t)t * size, n, w->indices + (ptrdiff_t)(first + t) * size,
                                               snn_vector(w->sizes, first + t, size));
    }
    for (k = 0; k < n; k++) {
        decoded[k] = m->net[k] / (float)timesteps;
        sent[k] = m->net[k];
    }
    return spikes;
}
#endif

/* All timesteps of one layer of one row; `decoded` becomes its activation, `listing` says whether its spikes are to be
 * listed, from train `first` on. Returns the number of spikes. */
SNN_FUNCTION int32_t snn_run_layer(const snn_header *header, const float *drive, int constant, const float *bias,
                                   const float *threshold, const float *start, const snn_membranes *m, float *decoded,
                                   float *sent, const snn_workspace *w, int listing, int32_t first, int32_t n) {
    const int32_t size = header->row_size, timesteps = header->timesteps;
    const size_t bytes = (size_t)n * sizeof(float);
    int32_t spikes = 0, t, k;
    memcpy(m->v, start, bytes);
    memcpy(m->inflow, bias, bytes);
    memset(m->net, 0, bytes);
    memset(decoded, 0, bytes);
    memset(sent, 0, bytes);
    for (t = 0; t < timesteps; t++) {
        const float *x = drive + (constant ? 0 : (ptrdiff_t)t * size);
        if (header->differential) {
            snn_integrate_change(m, x, t == 0 || !constant ? 1.0f : 0.0f, (float)(t + 1), decoded, n);
        } else {
            snn_integrate(m->v, x, n);
        }
        switch (header->neuron) {
        case SNN_IF:
            snn_fire_if(m, threshold, n);
            break;
        case SNN_SNM:
            snn_fire_snm(m, threshold, n);
            break;
        default:
            snn_fire_mt(m, threshold, header->levels, n);
            break;
        }
        if (header->differential) {
            const float *SNN_RESTRICT output = m->output;
            float *SNN_RESTRICT outflow = decoded;
            for (k = 0; k < n; k++) {
                outflow[k] += output[k] / (float)(t + 1);
            }
        }
        snn_note_events(m->output, sent, n);
        if (listing) {
            w->listed[first + t] = snn_list_spikes(m->output, n, w->indices + (ptrdiff_t)(first + t) * size,
                                                   snn_vector(w->sizes, first + t, size));
            spikes += w->listed[first + t];
        } else {
            spikes += snn_count_spikes(m->output, n);
        }
    }
    if (!header->differential) {
        for (k = 0; k < n; k++) {
            decoded[k] = m->net[k] / (float)timesteps;
        }
    }
    return spikes;
}

/* A layer of one row, from its drive to its residual, its trains and its counts; leaves M in the second work vector. */
SNN_FUNCTION void snn_run_stage(const snn_program *program, int32_t index, float *drive, float *state,
                                const snn_workspace *w, int32_t row, float *decoded, int64_t *counts) {
    const snn_header *header = program->header;
    const snn_stage *stage = program->stages + index;
    const int32_t n = stage->width, size = header->row_size, spiking = snn_spiking_stages(header);
    const float *threshold = program->parameters + stage->neurons, *bias = program->parameters + stage->bias;
    float *residual = state + stage->memory, *start = snn_vector(w->work, 6, size), *sent = snn_vector(w->work, 7, size);
    const int constant = index == 1 ? 1 : 0;
    const int listing = index + 2 < header->stage_count || stage->fan_out >= 0 ? 1 : 0;
    snn_membranes m;
    m.v = w->work;
    m.net = snn_vector(w->work, 1, size);
    m.inflow = snn_vector(w->work, 2, size);
    m.passed = snn_vector(w->work, 3, size);
    m.output = snn_vector(w->work, 4, size);
    snn_start_potential(header, stage->alpha, threshold, residual, start, n);
    if (header->calibrates) {
        snn_calibrate(header, drive, constant ? 1 : header->timesteps, threshold,
                      (int32_t)counts[2 * spiking + SNN_ITERATIONS], start, w->work, n);
    }
#if defined(SNN_VECTOR)
    if (header->neuron == SNN_IF && !header->differential) {
        counts[index - 1] = snn_run_if_layer(header, drive, constant, threshold, start, &m, decoded, sent, w, listing,
                                             row * header->timesteps, n);
    } else
#endif
    {
        counts[index - 1] = snn_run_layer(header, drive, constant, bias, threshold, start, &m, decoded, sent, w,
                                          listing, row * header->timesteps, n);
    }
    counts[spiking + index - 1] = snn_count_spikes(sent, n);
    counts[2 * spiking + SNN_EVENTS] += stage->fan_out < 0
        ? counts[spiking + index - 1] * stage->uniform_fan_out
        : snn_synapses_of(program->parameters + stage->fan_out, sent, n);
    if (stage->fan_out < 0) {
        counts[2 * spiking + SNN_OPERATIONS] += counts[index - 1] * stage->uniform_fan_out;
    }
    snn_residual(header, m.v, start, m.net, residual, n);
}

/* totals[n] ← bias or nothing, then += W·(train n), for `count` trains `step` apart. */
SNN_FUNCTION void snn_drive(const snn_program *program, int32_t index, int with_bias, const snn_workspace *w,
                            float *totals, int32_t count, int32_t step) {
    const snn_header *header = program->header;
    const snn_stage *stage = program->stages + index;
    const snn_connection *c = program->connections + stage->first_connection;
    const int32_t size = header->row_size, sums_size = c->kind == SNN_CONV2D ? snn_sums_size(c) : 0;
    const float *weights = program->parameters + c->weights;
    float *sums = snn_vector(w->work, 11, size), *image = snn_vector(w->work, 10, size);
    int32_t n;
    for (n = 0; n < count; n++) {
        float *total = snn_vector(totals, n * step, size);
        if (with_bias) {
            memcpy(total, program->parameters + stage->bias, (size_t)stage->width * sizeof *total);
        } else {
            memset(total, 0, (size_t)stage->width * sizeof *total);
        }
    }
    if (c->kind != SNN_CONV2D) {
        snn_propagate(program, c, w, 0, totals, count, step);
        return;
    }
    for (n = 0; n < count; n++) {
        const int32_t train = n * step;
        memset(sums, 0, (size_t)sums_size * sizeof *sums);
        snn_convolve(c, weights, w->indices + (ptrdiff_t)train * size, snn_vector(w->sizes, train, size),
                     w->listed[train], image, sums);
        snn_add_channels(c, sums, snn_vector(totals, train, size));
    }
}

/* Every row's vector of values as a train; row r's is r·step. */
SNN_FUNCTION void snn_list_values(const snn_header *header, const float *values, int32_t n, const snn_workspace *w,
                                  int32_t rows, int32_t step) {
    const int32_t size = header->row_size;
    int32_t row;
    for (row = 0; row < rows; row++) {
        const int32_t train = row * step;
        w->listed[train] = snn_list_spikes(values + (ptrdiff_t)row * size, n, w->indices + (ptrdiff_t)train * size,
                                           snn_vector(w->sizes, train, size));
    }
}

/* Adaptive calibration: the next decision's extra iterations, by this one's error spikes. */
SNN_FUNCTION void snn_adapt(const snn_header *header, float total, float *state, int64_t *costs) {
    const float rounded = snn_min(total + 0.5f, 1e18f);
    const int64_t errors = (int64_t)rounded;
    const int more = errors > header->error_tolerance && costs[SNN_ITERATIONS] < header->most_iterations ? 1 : 0;
    costs[SNN_ERRORS] = errors;
    state[header->extra] = more ? state[header->extra] + 1.0f : 0.0f;
}

/* Synaptic operations of the listed spikes where fan-outs differ. */
SNN_FUNCTION void snn_count_synapses(const snn_program *program, int32_t index, const snn_workspace *w, int32_t rows,
                                     int64_t *counts) {
    const snn_header *header = program->header;
    const snn_stage *stage = program->stages + index;
    const int32_t timesteps = header->timesteps, spiking = snn_spiking_stages(header);
    int32_t train;
    for (train = 0; train < rows * timesteps; train++) {
        counts[(ptrdiff_t)(train / timesteps) * snn_count_size(header) + 2 * spiking + SNN_OPERATIONS] +=
            snn_synapses(program->parameters + stage->fan_out, w->indices + (ptrdiff_t)train * header->row_size, NULL,
                         w->listed[train]);
    }
}

/* Before the first layer: the observations as trains, and every row's iterations of calibration. */
SNN_FUNCTION void snn_begin_membranes(const snn_program *program, const float *state, const snn_workspace *w,
                                      int32_t rows, int64_t *counts) {
    const snn_header *header = program->header;
    const int32_t size = header->row_size, spiking = snn_spiking_stages(header);
    float *errors = snn_vector(w->work, 8, size);
    int32_t row;
    for (row = 0; row < rows; row++) {
        int64_t *costs = counts + (ptrdiff_t)row * snn_count_size(header) + 2 * spiking;
        snn_normalise(program, snn_vector(w->values, row, size));
        memcpy(snn_vector(w->values, rows + row, size), snn_vector(w->values, row, size),
               (size_t)program->stages[0].width * sizeof(float));
        costs[SNN_ITERATIONS] = header->least_iterations;
        if (header->adaptive) {
            const float extra = state[(ptrdiff_t)row * header->state_size + header->extra];
            const float most = (float)(header->most_iterations - header->least_iterations);
            costs[SNN_ITERATIONS] += (int64_t)snn_max(snn_min(extra, most), (float)-header->least_iterations);
        }
        errors[row] = 0.0f;
    }
    snn_list_values(header, w->values, program->stages[0].width, w, rows, header->timesteps);
}

/* One decision of `rows` rows, whose observations are in `w->values`; `state` and `counts` (rows, …) go on. */
SNN_FUNCTION void snn_decide_membrane(const snn_program *program, float *state, const snn_workspace *w, int32_t rows,
                                      float *actions, int64_t *counts) {
    const snn_header *header = program->header;
    const int32_t size = header->row_size, timesteps = header->timesteps, last = header->stage_count - 1;
    const int32_t count_size = snn_count_size(header), spiking = snn_spiking_stages(header);
    float *shadow = snn_vector(w->values, rows, size), *errors = snn_vector(w->work, 8, size);
    int32_t row, index;
    snn_begin_membranes(program, state, w, rows, counts);
    for (index = 1; index < last; index++) {
        const snn_stage *stage = program->stages + index;
        const int32_t step = index == 1 ? timesteps : 1, count = index == 1 ? rows : rows * timesteps;
        snn_drive(program, index, !header->differential, w, w->totals, count, step);
        if (header->adaptive) {
            snn_list_values(header, shadow, program->stages[index - 1].width, w, rows, 1);
            snn_drive(program, index, 1, w, shadow, rows, 1);
        }
        for (row = 0; row < rows; row++) {
            snn_run_stage(program, index, snn_vector(w->totals, row * timesteps, size),
                          state + (ptrdiff_t)row * header->state_size, w, row, snn_vector(w->values, row, size),
                          counts + (ptrdiff_t)row * count_size);
            if (header->adaptive) {
                errors[row] += snn_shadow_errors(snn_vector(shadow, row, size), program->parameters + stage->neurons,
                                                 (float)stage->levels, snn_vector(w->work, 1, size), timesteps,
                                                 stage->width);
            }
        }
        if (stage->fan_out >= 0) {
            snn_count_synapses(program, index, w, rows, counts);
        }
    }
    snn_list_values(header, w->values, program->stages[last - 1].width, w, rows, 1);
    snn_drive(program, last, 1, w, w->totals, rows, 1);
    for (row = 0; row < rows; row++) {
        snn_apply_head(program, snn_vector(w->totals, row, size), actions + (ptrdiff_t)row * header->action_size);
        if (header->adaptive) {
            snn_adapt(header, errors[row], state + (ptrdiff_t)row * header->state_size,
                      counts + (ptrdiff_t)row * count_size + 2 * spiking);
        }
    }
}

#endif
