/* Sigma-delta encoding of whole recordings, neuron by neuron along time, for the calibration.
 *
 * The arithmetic of `snn_policy.spiking.neurons.sigma_delta_spike`, operation by operation. Neurons go in tiles that stay in
 * the cache; with β = 2 a spike's size is the exponent of |v|/(k·q).
 */
#ifndef SNN_SEQUENCE_H
#define SNN_SEQUENCE_H

#include "sigma_delta.h"

#define SNN_SEQUENCE_TILE 256

typedef struct {
    float v[SNN_SEQUENCE_TILE], total[SNN_SEQUENCE_TILE], unit[SNN_SEQUENCE_TILE];
    int32_t fired[SNN_SEQUENCE_TILE];
} snn_sequence_tile;

/* One digit of a tile's neurons, β = 2; returns how many spiked. Not `snn_fire_doubling`, whose difference of exponents
 * needs normal numbers: quanta on trial may be as small as they like, and their products overflow. */
SNN_FUNCTION int32_t snn_sequence_doubling(snn_sequence_tile *SNN_RESTRICT tile, const float *SNN_RESTRICT quantum,
                                           float largest, int32_t n) {
    int32_t count = 0, j;
    for (j = 0; j < n; j++) {
        const float v = tile->v[j], ratio = snn_min(snn_abs(v) / tile->unit[j], largest);
        const int32_t fires = ratio >= 1.0f ? -1 : 0;
        const float power = snn_from_bits(snn_bits(ratio) & 0x7F800000), size = quantum[j] * power;
        const float s = snn_from_bits((snn_bits(size) | (snn_bits(v) & ~SNN_MAGNITUDE_BITS)) & fires);
        tile->v[j] = v - s;
        tile->total[j] += s;
        tile->fired[j] -= fires;
        count -= fires;
    }
    return count;
}

/* One digit of a tile's neurons, any β; returns how many spiked. */
SNN_FUNCTION int32_t snn_sequence_digit(snn_sequence_tile *SNN_RESTRICT tile, const float *SNN_RESTRICT quantum,
                                        const float *SNN_RESTRICT powers, int32_t power_count, int32_t n) {
    int32_t count = 0, j;
    for (j = 0; j < n; j++) {
        float power;
        const float s = snn_digit(tile->v[j], quantum[j], tile->unit[j], powers, power_count, &power);
        if (power == 0.0f) {
            continue;
        }
        tile->v[j] -= s;
        tile->total[j] += s;
        tile->fired[j] += 1;
        count += 1;
    }
    return count;
}

/* v of a tile; returns how many neurons will spike. */
SNN_FUNCTION int32_t snn_sequence_owed(snn_sequence_tile *SNN_RESTRICT tile, const float *SNN_RESTRICT h,
                                       const float *SNN_RESTRICT gamma, const float *SNN_RESTRICT memory, int32_t n) {
    int32_t count = 0, j;
    for (j = 0; j < n; j++) {
        tile->v[j] = h[j] - gamma[j] * memory[j];
        tile->total[j] = 0.0f;
        count += snn_abs(tile->v[j]) >= tile->unit[j] ? 1 : 0;
    }
    return count;
}

/* v ← v + α·r of a tile; returns how many neurons will spike. */
SNN_FUNCTION int32_t snn_sequence_carried(snn_sequence_tile *SNN_RESTRICT tile, float alpha,
                                          const float *SNN_RESTRICT residual, int32_t n) {
    int32_t count = 0, j;
    for (j = 0; j < n; j++) {
        tile->v[j] += alpha * residual[j];
        count += snn_abs(tile->v[j]) >= tile->unit[j] ? 1 : 0;
    }
    return count;
}

/* r of a tile: v within ±q of neurons that sent nothing, where it is not tiny, else 0. */
SNN_FUNCTION void snn_sequence_left(const snn_sequence_tile *SNN_RESTRICT tile, const float *SNN_RESTRICT quantum,
                                    float *SNN_RESTRICT residual, int32_t n) {
    int32_t j;
    for (j = 0; j < n; j++) {
        const float left = snn_min(snn_max(tile->v[j], -quantum[j]), quantum[j]);
        const int kept = tile->total[j] == 0.0f && snn_abs(tile->v[j]) >= quantum[j] * SNN_LEAST_RESIDUAL;
        residual[j] = kept ? left : 0.0f;
    }
}

/* h, sent: (decisions, neurons); `sent` becomes the memory after each decision, which goes on in `memory`, and the
 * residual in `residual`, NULL where none is carried. */
SNN_FUNCTION void snn_encode_sequence(const float *h, int64_t decisions, int64_t neurons, const float *quantum,
                                      const float *gamma, float *memory, int32_t digits, const float *powers,
                                      int32_t power_count, float alpha, float *residual, float *sent, int64_t *spikes) {
    const float reach = (1.0f + 1.0f / powers[1]) / 2.0f;
    int64_t start, row;
    for (start = 0; start < neurons; start += SNN_SEQUENCE_TILE) {
        const int32_t n = (int32_t)(neurons - start < SNN_SEQUENCE_TILE ? neurons - start : SNN_SEQUENCE_TILE);
        const float *q = quantum + start, *g = gamma + start;
        float *m = memory + start;
        snn_sequence_tile tile;
        int32_t digit, j;
        for (j = 0; j < n; j++) {
            const float unit = q[j] * reach;
            tile.unit[j] = unit == 0.0f ? snn_from_bits(SNN_INFINITY_BITS) : unit;
            tile.fired[j] = 0;
        }
        for (row = 0; row < decisions; row++) {
            int32_t spiking = snn_sequence_owed(&tile, h + row * neurons + start, g, m, n);
            if (residual != NULL) {
                spiking = snn_sequence_carried(&tile, alpha, residual + start, n);
            }
            for (digit = 0; digit < digits && spiking > 0; digit++) {
                spiking = powers[1] == 2.0f
                    ? snn_sequence_doubling(&tile, q, powers[power_count - 1], n)
                    : snn_sequence_digit(&tile, q, powers, power_count, n);
            }
            if (residual != NULL) {
                snn_sequence_left(&tile, q, residual + start, n);
            }
            for (j = 0; j < n; j++) {
                m[j] = g[j] * m[j] + tile.total[j];
            }
            memcpy(sent + row * neurons + start, m, (size_t)n * sizeof *m);
            if ((row & 0xFFFFFF) == 0xFFFFFF || row + 1 == decisions) { /* before 32 bits could overflow */
                for (j = 0; j < n; j++) {
                    spikes[start + j] += tile.fired[j];
                    tile.fired[j] = 0;
                }
            }
        }
    }
}

#endif
