/* IF, SNM and MT neurons: one timestep of a layer (docs/methods.md §1). v membrane, M net output so far, o output. */
#ifndef SNN_MEMBRANE_H
#define SNN_MEMBRANE_H

#include "program.h"

/* The vectors of a layer at work, (n,) each. */
typedef struct {
    float *v, *net, *inflow, *passed, *output;
} snn_membranes;

/* The IF neuron: o = θ where v > θ. `snn_run_if_registers` has it again in a register's operations. */
SNN_ALWAYS float snn_if_output(float v, float threshold) { return v > threshold ? threshold : 0.0f; }

SNN_FUNCTION void snn_fire_if(const snn_membranes *m, const float *SNN_RESTRICT threshold, int32_t n) {
    float *SNN_RESTRICT v = m->v, *SNN_RESTRICT net = m->net, *SNN_RESTRICT output = m->output;
    int32_t k;
    for (k = 0; k < n; k++) {
        const float o = snn_if_output(v[k], threshold[k]);
        output[k] = o;
        v[k] -= o;
        net[k] += o;
    }
}

/* o = +θ where v > θ; −θ where v < 0 and M > 0 */
SNN_FUNCTION void snn_fire_snm(const snn_membranes *m, const float *SNN_RESTRICT threshold, int32_t n) {
    float *SNN_RESTRICT v = m->v, *SNN_RESTRICT net = m->net, *SNN_RESTRICT output = m->output;
    int32_t k;
    for (k = 0; k < n; k++) {
        const float below = v[k] < 0.0f ? -threshold[k] : 0.0f;
        const float down = net[k] > 0.0f ? below : 0.0f;
        const float o = v[k] > threshold[k] ? threshold[k] : down;
        output[k] = o;
        v[k] -= o;
        net[k] += o;
    }
}

/* Levels λ_i = θ·2^−i. v ≥ 0: the first λ_i with v ≥ ¾λ_i. v < 0: o = −Σ λ_i·(q_i − q_{i−1}),
 * q_i = [v ≤ −¾λ_i]·[M ≥ λ_i] */
SNN_FUNCTION void snn_fire_mt(const snn_membranes *m, const float *SNN_RESTRICT threshold, int32_t levels, int32_t n) {
    float *SNN_RESTRICT v = m->v, *SNN_RESTRICT net = m->net, *SNN_RESTRICT output = m->output;
    float *SNN_RESTRICT passed = m->passed;
    float share = 1.0f;
    int32_t i, k;
    for (k = 0; k < n; k++) {
        output[k] = 0.0f;
        passed[k] = 0.0f;
    }
    for (i = 0; i < levels; i++) {
        for (k = 0; k < n; k++) {
            const float level = threshold[k] * share, o = output[k];
            const float reaching = v[k] >= 0.75f * level ? level : o, positive = o == 0.0f ? reaching : o;
            const float low = v[k] <= -0.75f * level ? 1.0f : 0.0f, q = net[k] >= level ? low : 0.0f;
            const float negative = o - level * (q - passed[k]);
            passed[k] = q;
            output[k] = v[k] < 0.0f ? negative : positive;
        }
        share *= 0.5f;
    }
    for (k = 0; k < n; k++) {
        v[k] -= output[k];
        net[k] += output[k];
    }
}

/* v ← v + x */
SNN_FUNCTION void snn_integrate(float *SNN_RESTRICT v, const float *SNN_RESTRICT x, int32_t n) {
    int32_t k;
    for (k = 0; k < n; k++) {
        v[k] += x[k];
    }
}

/* Differential: M ← M + m_out; v ← v + d + m_in − m_out; m_in ← m_in + d/t, with d = x where `present`, else 0. */
SNN_FUNCTION void snn_integrate_change(const snn_membranes *m, const float *SNN_RESTRICT x, float present, float t,
                                       const float *SNN_RESTRICT outflow, int32_t n) {
    float *SNN_RESTRICT v = m->v, *SNN_RESTRICT net = m->net, *SNN_RESTRICT inflow = m->inflow;
    int32_t k;
    for (k = 0; k < n; k++) {
        const float d = x[k] * present;
        net[k] += outflow[k];
        v[k] = v[k] + d + inflow[k] - outflow[k];
        inflow[k] += d / t;
    }
}

#if defined(SNN_VECTOR)
/* All timesteps of a layer of IF neurons under rate coding, a register of neurons at a time: v ← v + x, o = θ where
 * v > θ, v ← v − o, M ← M + o. `drive` and `output` hold a vector per timestep, `pitch` and `size` apart (a pitch of 0:
 * one vector for all), and may be the same; `output` may be NULL. Returns the number of spikes of the first neurons,
 * whole registers of them, and leaves in `done` how many those are. */
SNN_FUNCTION int32_t snn_run_if_registers(const float *drive, ptrdiff_t pitch, const float *threshold, int32_t timesteps,
                                          float *potential, float *total, float *output, ptrdiff_t size, int32_t n,
                                          int32_t *done) {
    int32_t spikes = 0, k = 0, t;
    snn_floats nothing;
    snn_integers fired;
    memset(&nothing, 0, sizeof nothing);
    memset(&fired, 0, sizeof fired);
    for (; k + SNN_VECTOR <= n; k += SNN_VECTOR) {
        const snn_floats theta = *(const snn_floats *)(const void *)(threshold + k);
        const snn_floats at_first = *(const snn_floats *)(const void *)(drive + k); /* `output` may overwrite it */
        snn_floats v = *(const snn_floats *)(const void *)(potential + k), net = nothing;
        for (t = 0; t < timesteps; t++) {
            snn_integers over;
            snn_floats o;
            v += pitch == 0 ? at_first : *(const snn_floats *)(const void *)(drive + t * pitch + k);
            over = v > theta;
            o = (snn_floats)((snn_integers)theta & over);
            v -= o;
            net += o;
            fired -= over & (theta != nothing);
            if (output != NULL) {
                *(snn_floats *)(void *)(output + t * size + k) = o;
            }
        }
        *(snn_floats *)(void *)(potential + k) = v;
        *(snn_floats *)(void *)(total + k) = net;
    }
    for (t = 0; t < SNN_VECTOR; t++) {
        spikes += fired[t];
    }
    *done = k;
    return spikes;
}

/* One neuron after the other: the same for those from `first` on. */
SNN_FUNCTION int32_t snn_run_if_rest(const float *drive, ptrdiff_t pitch, const float *threshold, int32_t timesteps,
                                     float *potential, float *total, float *output, ptrdiff_t size, int32_t first,
                                     int32_t n) {
    int32_t spikes = 0, k, t;
    for (k = first; k < n; k++) {
        const float at_first = drive[k];
        float v = potential[k], net = 0.0f;
        for (t = 0; t < timesteps; t++) {
            float o;
            v += pitch == 0 ? at_first : drive[t * pitch + k];
            o = snn_if_output(v, threshold[k]);
            v -= o;
            net += o;
            spikes += o != 0.0f ? 1 : 0;
            if (output != NULL) {
                output[t * size + k] = o;
            }
        }
        potential[k] = v;
        total[k] = net;
    }
    return spikes;
}
#endif

#endif
