/* The activations of hidden stages, elementwise and in place; `snn_policy.ann.activations` defines them. */
#ifndef SNN_ACTIVATION_H
#define SNN_ACTIVATION_H

#include "elementary.h"
#include "program.h"

/* ⌊clip(z/step + ½, 0, levels)⌋·step; clipping first keeps the whole number within an integer's range. */
SNN_ALWAYS float snn_quantised(float z, float step, float levels) {
    const float steps = snn_min(snn_max(z / step + 0.5f, 0.0f), levels);
    return (float)(int32_t)steps * step;
}

SNN_FUNCTION void snn_activate(float *z, int32_t n, const snn_stage *stage) {
    const float parameter = stage->parameter, levels = stage->activation_levels;
    int32_t k;
    switch (stage->activation) {
    case SNN_RELU:
        for (k = 0; k < n; k++) {
            z[k] = snn_max(z[k], 0.0f);
        }
        break;
    case SNN_TANH:
        for (k = 0; k < n; k++) {
            z[k] = snn_tanh(z[k]);
        }
        break;
    case SNN_ELU: /* z, or a·(e^z − 1) */
        for (k = 0; k < n; k++) {
            const float below = parameter * snn_expm1(snn_min(z[k], 0.0f));
            z[k] = z[k] > 0.0f ? z[k] : below;
        }
        break;
    case SNN_SILU: /* z·σ(z), σ(z) = (1 + tanh(z/2))/2 */
        for (k = 0; k < n; k++) {
            z[k] = z[k] * (snn_tanh(z[k] * 0.5f) * 0.5f + 0.5f);
        }
        break;
    case SNN_LEAKY_RELU:
        for (k = 0; k < n; k++) {
            const float below = z[k] * parameter;
            z[k] = z[k] > 0.0f ? z[k] : below;
        }
        break;
    case SNN_QCFS: {
        const float step = parameter / levels;
        for (k = 0; k < n; k++) {
            z[k] = snn_quantised(z[k], step, levels);
        }
        break;
    }
    default:
        break;
    }
}

#endif
