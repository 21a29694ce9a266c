/* Spike calibration of one layer of one row, and the error spikes of its adaptive form.
 *
 * The steps of `snn_policy.spiking.spike_calibration`, which has the equations and their sources.
 */
#ifndef SNN_CALIBRATION_H
#define SNN_CALIBRATION_H

#include "activation.h"

/* What a simulated pass notes per neuron: n, final v, m_f (least v after a spike), m_s (largest v of a silent step). */
typedef struct {
    float *spikes, *v, *after_spike, *silent;
} snn_pass;

/* Run IF neurons on the drive (`drives` vectors, `pitch` apart, repeated), bias included, from v[0] = start.
 * Not by `snn_if_output`, from whose o the loop has to find again whether there was a spike: that takes 2 to 7 % more. */
SNN_FUNCTION void snn_simulate(const float *drive, int32_t drives, int32_t pitch, const float *start,
                               const float *SNN_RESTRICT threshold, int32_t steps, const snn_pass *pass, int32_t n) {
    float *SNN_RESTRICT spikes = pass->spikes, *SNN_RESTRICT v = pass->v;
    float *SNN_RESTRICT after_spike = pass->after_spike, *SNN_RESTRICT silent = pass->silent;
    int32_t t, k;
    for (k = 0; k < n; k++) {
        spikes[k] = 0.0f;
        v[k] = start[k];
        after_spike[k] = SNN_FAR;
        silent[k] = -SNN_FAR;
    }
    for (t = 0; t < steps; t++) {
        const float *SNN_RESTRICT x = drive + (ptrdiff_t)(t % drives) * pitch;
        for (k = 0; k < n; k++) {
            const float potential = v[k] + x[k], theta = threshold[k];
            const float over = potential > theta ? 1.0f : 0.0f, fired = theta > 0.0f ? over : 0.0f;
            const float left = fired != 0.0f ? potential - theta : potential;
            const float least = snn_min(after_spike[k], left), most = snn_max(silent[k], left);
            v[k] = left;
            spikes[k] += fired;
            after_spike[k] = fired != 0.0f ? least : after_spike[k];
            silent[k] = fired != 0.0f ? silent[k] : most;
        }
    }
}

/* Move v[0] of one neuron after a pass; n and v are what is judged, `before` iterations have gone before. */
SNN_FUNCTION float snn_corrected(float start, float n, float v, float theta, float before, float steps, float epsilon,
                                 float after_spike, float silent) {
    if (theta <= 0.0f) {
        return start;
    }
    if (v < theta * -before && n > before) {
        return start - snn_max(theta, after_spike + theta * epsilon);
    }
    if (v >= theta * (before + 1.0f) && n < steps - before) {
        return start + snn_max(theta, theta + theta * epsilon - silent);
    }
    return start;
}

/* Move `start`, v[0], in place; `work` has six vectors of scratch. */
SNN_FUNCTION void snn_calibrate(const snn_header *header, const float *drive, int32_t drives, const float *threshold,
                                int32_t iterations, float *start, float *work, int32_t n) {
    const int32_t size = header->row_size, steps = header->simulation_steps;
    float *first_spikes = snn_vector(work, 4, size), *first_v = snn_vector(work, 5, size);
    snn_pass pass;
    int32_t iteration, k;
    pass.spikes = work;
    pass.v = snn_vector(work, 1, size);
    pass.after_spike = snn_vector(work, 2, size);
    pass.silent = snn_vector(work, 3, size);
    for (iteration = 0; iteration < iterations; iteration++) {
        const float before = header->literal ? 0.0f : (float)iteration;
        snn_simulate(drive, drives, size, start, threshold, steps, &pass, n);
        if (iteration == 0 || header->literal) {
            memcpy(first_spikes, pass.spikes, (size_t)n * sizeof(float));
            memcpy(first_v, pass.v, (size_t)n * sizeof(float));
        }
        for (k = 0; k < n; k++) {
            start[k] = snn_corrected(start[k], first_spikes[k], first_v[k], threshold[k], before, (float)steps,
                                     header->epsilon, pass.after_spike[k], pass.silent[k]);
        }
    }
}

/* The quantised ANN's layer: z, its input, is left with its activation; returns Σ |a·T/θ − n|. */
SNN_FUNCTION float snn_shadow_errors(float *z, const float *threshold, float levels, const float *net,
                                     int32_t timesteps, int32_t n) {
    float errors = 0.0f;
    int32_t k;
    for (k = 0; k < n; k++) {
        if (threshold[k] > 0.0f) {
            z[k] = snn_quantised(z[k], threshold[k] / levels, levels);
            errors += snn_abs(z[k] * (float)timesteps - net[k]) / threshold[k];
        } else {
            z[k] = 0.0f;
        }
    }
    return errors;
}

#endif
