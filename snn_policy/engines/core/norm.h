/* Normalising a stage's values among themselves, in place; `snn_policy.ann.cells.Norm` defines it.
 *
 *     layer: (z − mean z)/√(var z + ε)·w + b     rms: z/√(mean z² + ε)·w + b     l2: z/max(‖z‖, ε)·w + b
 *
 * A sum goes along SNN_LANES lanes, value j to lane j mod SNN_LANES, and then lane k + half to lane k, half by half:
 * the same order whatever a processor's vectors.
 */
#ifndef SNN_NORM_H
#define SNN_NORM_H

#include "elementary.h"
#include "program.h"

SNN_FUNCTION float snn_add_lanes(float *lanes) {
    int32_t half, k;
    for (half = SNN_LANES / 2; half > 0; half /= 2) {
        for (k = 0; k < half; k++) {
            lanes[k] += lanes[half + k];
        }
    }
    return lanes[0];
}

SNN_FUNCTION float snn_sum(const float *z, int32_t n) {
    float lanes[SNN_LANES] = {0.0f};
    int32_t j = 0, k;
    for (; j + SNN_LANES <= n; j += SNN_LANES) {
        for (k = 0; k < SNN_LANES; k++) {
            lanes[k] += z[j + k];
        }
    }
    for (k = 0; j + k < n; k++) {
        lanes[k] += z[j + k];
    }
    return snn_add_lanes(lanes);
}

SNN_FUNCTION float snn_sum_of_squares(const float *z, int32_t n) {
    float lanes[SNN_LANES] = {0.0f};
    int32_t j = 0, k;
    for (; j + SNN_LANES <= n; j += SNN_LANES) {
        for (k = 0; k < SNN_LANES; k++) {
            lanes[k] += z[j + k] * z[j + k];
        }
    }
    for (k = 0; j + k < n; k++) {
        lanes[k] += z[j + k] * z[j + k];
    }
    return snn_add_lanes(lanes);
}

SNN_FUNCTION void snn_norm(float *SNN_RESTRICT z, int32_t n, int32_t kind, const float *SNN_RESTRICT weight,
                           float epsilon) {
    const float *SNN_RESTRICT bias = weight + n;
    const float count = (float)n;
    float size;
    int32_t k;
    if (kind == SNN_LAYER_NORM) {
        const float mean = snn_sum(z, n) / count;
        for (k = 0; k < n; k++) {
            z[k] -= mean;
        }
    }
    if (kind == SNN_L2_NORM) {
        size = snn_max(snn_sqrt(snn_sum_of_squares(z, n)), epsilon);
    } else {
        size = snn_sqrt(snn_sum_of_squares(z, n) / count + epsilon);
    }
    for (k = 0; k < n; k++) {
        z[k] = z[k] / size * weight[k] + bias[k];
    }
}

#endif
