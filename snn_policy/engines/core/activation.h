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

SNN_FUNCTION void snn_activate(float *z, int32_t n, int32_t activation, float parameter, float levels) {
    int32_t k;
    switch (activation) {
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
    case SNN_SILU: /* z·σ(z) */
        for (k = 0; k < n; k++) {
            z[k] = z[k] * snn_sigmoid(z[k]);
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
    case SNN_SOFTPLUS: /* log(1 + e^z) */
        for (k = 0; k < n; k++) {
            z[k] = snn_max(z[k], 0.0f) + snn_log1p(snn_exp(-snn_abs(z[k])));
        }
        break;
    case SNN_SOFTSIGN:
        for (k = 0; k < n; k++) {
            z[k] = z[k] / (snn_abs(z[k]) + 1.0f);
        }
        break;
    case SNN_MISH: /* z·tanh(log(1 + e)) = z·m/(m + 2), m = e·(e + 2), e = e^z */
        for (k = 0; k < n; k++) {
            const float e = snn_exp(snn_min(z[k], 20.0f)), m = e * (e + 2.0f);
            z[k] = z[k] * (m / (m + 2.0f));
        }
        break;
    case SNN_GELU: /* z·(1 + erf(z/√2))/2 */
        for (k = 0; k < n; k++) {
            z[k] = z[k] * (snn_erf(z[k] * 0.707106769f) * 0.5f + 0.5f);
        }
        break;
    case SNN_GELU_TANH: /* z·(1 + tanh(√(2/π)·(z + 0.044715·z³)))/2 */
        for (k = 0; k < n; k++) {
            const float inner = z[k] * (z[k] * z[k] * 0.0356774069f + 0.797884583f);
            z[k] = z[k] * (snn_tanh(inner) * 0.5f + 0.5f);
        }
        break;
    case SNN_LOG_SOFTPLUS: /* log(o + log(1 + e^z)); below −15, log(1 + e^z) is e^z */
        for (k = 0; k < n; k++) {
            const float x = parameter > 0.0f ? z[k] : snn_max(z[k], -15.0f);
            const float soft = snn_max(x, 0.0f) + snn_log1p(snn_exp(-snn_abs(x)));
            z[k] = snn_log(soft + parameter) + (z[k] - x);
        }
        break;
    case SNN_CLIP: /* min(max(z, 0), λ) */
        for (k = 0; k < n; k++) {
            z[k] = snn_min(snn_max(z[k], 0.0f), parameter);
        }
        break;
    case SNN_HARDSWISH: /* z·clip(z + 3, 0, 6)/6 */
        for (k = 0; k < n; k++) {
            z[k] = z[k] * (snn_min(snn_max(z[k] + 3.0f, 0.0f), 6.0f) * 0.166666672f);
        }
        break;
    default:
        break;
    }
}

#endif
