/* IF, SNM and MT neurons: one timestep of a layer (docs/methods.md §1). v membrane, M net output so far, o output. */
#ifndef SNN_MEMBRANE_H
#define SNN_MEMBRANE_H

#include "program.h"

/* The vectors of a layer at work, (n,) each. */
typedef struct {
    float *v, *net, *inflow, *passed, *output;
} snn_membranes;

/* o = θ where v > θ */
SNN_FUNCTION void snn_fire_if(const snn_membranes *m, const float *SNN_RESTRICT threshold, int32_t n) {
    float *SNN_RESTRICT v = m->v, *SNN_RESTRICT net = m->net, *SNN_RESTRICT output = m->output;
    int32_t k;
    for (k = 0; k < n; k++) {
        const float o = v[k] > threshold[k] ? threshold[k] : 0.0f;
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

#endif
