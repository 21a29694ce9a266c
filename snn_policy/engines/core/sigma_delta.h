/* The sigma-delta neuron: v is sent as spikes ±q·β^i, largest first, at most D of them.
 *
 *     v = h − c − γ·m;   while |v| ≥ k·q:  s = sign(v)·q·β^i,  i = ⌊log_β(|v|/(k·q))⌋,  v ← v − s;   m ← γ·m + Σ s
 *
 * and v = h − c − γ·m + α·r where residuals r are carried,
 * with k = (1 + 1/β)/2 (docs/methods.md §1). Only the neurons that reach k·q are looked at, side by side.
 */
#ifndef SNN_SIGMA_DELTA_H
#define SNN_SIGMA_DELTA_H

#include "program.h"

#define SNN_EXPONENT_BITS 0x7F800000
#define SNN_LARGEST_FINITE 0x7F7FFFFF
#define SNN_LARGEST_EXPONENT (40 * 0x00800000)      /* spikes up to 2⁴⁰ quanta */
#define SNN_LEAST_RESIDUAL (1.0f / 1048576.0f)      /* in quanta: a smaller one would end in subnormal numbers */
#define SNN_COARSE_EXPONENT (14 * 0x00800000)       /* one of 2¹⁴: the sums lose precision, derive them anew */

/* What is gathered of the neurons that reach their unit; each (n,), n a multiple of SNN_LANES. */
typedef struct {
    float *v, *quantum, *unit;
    float *sent;             /* Σ s */
    int32_t *fired;          /* how many spikes */
} snn_reached;

/* One digit, β = 2. The exponent of |v|/(k·q) is a difference of two floats' bits: no division, no rounding.
 * Returns how many neurons fired; `peak` becomes the largest exponent, times 2²³. */
SNN_FUNCTION int32_t snn_fire_doubling(const snn_reached *r, int32_t n, int32_t *peak) {
    float *SNN_RESTRICT v = r->v, *SNN_RESTRICT sent = r->sent;
    const float *SNN_RESTRICT quantum = r->quantum, *SNN_RESTRICT unit = r->unit;
    int32_t *SNN_RESTRICT fired = r->fired;
    int32_t count = 0, largest = *peak, j;
    for (j = 0; j < n; j++) {
        const int32_t bits = snn_bits(v[j]), size = bits & SNN_MAGNITUDE_BITS;
        const int32_t finite = size < SNN_LARGEST_FINITE ? size : SNN_LARGEST_FINITE;
        const int32_t over = finite - snn_bits(unit[j]);
        const int32_t above = over < SNN_LARGEST_EXPONENT ? over : SNN_LARGEST_EXPONENT;
        const int32_t fires = above >= 0 ? -1 : 0;
        const int32_t power = (above & SNN_EXPONENT_BITS & fires) + snn_bits(quantum[j]);
        const float s = snn_from_bits((power | (bits & ~SNN_MAGNITUDE_BITS)) & fires);
        v[j] -= s;
        sent[j] += s;
        fired[j] -= fires;
        count -= fires;
        largest = above > largest ? above : largest;
    }
    *peak = largest;
    return count;
}

/* One digit, any β: s of a neuron that owes v; `power` is its β^i, 0 where none is sent. */
SNN_ALWAYS float snn_digit(float v, float quantum, float unit, const float *powers, int32_t power_count, float *power) {
    const float ratio = snn_abs(v) / unit;
    int32_t i = 0;
    *power = 0.0f;
    if (!(ratio >= 1.0f)) {
        return 0.0f;
    }
    while (i < power_count - 1 && powers[i + 1] <= ratio) {
        i++;
    }
    *power = powers[i];
    return v > 0.0f ? quantum * powers[i] : -quantum * powers[i];
}

/* One digit of every neuron, any β; returns and `peak` as above. */
SNN_FUNCTION int32_t snn_fire_digit(const snn_reached *r, int32_t n, const float *powers, int32_t power_count,
                                    int32_t *peak) {
    int32_t count = 0, j;
    for (j = 0; j < n; j++) {
        float power;
        const float s = snn_digit(r->v[j], r->quantum[j], r->unit[j], powers, power_count, &power);
        if (power == 0.0f) {
            continue;
        }
        r->v[j] -= s;
        r->sent[j] += s;
        r->fired[j] += 1;
        count += 1;
        if (snn_bits(power) - snn_bits(1.0f) > *peak) {
            *peak = snn_bits(power) - snn_bits(1.0f);
        }
    }
    return count;
}

#if defined(SNN_SCALAR)
/* As `snn_fire_doubling`, of one neuron; returns how many of its `digits` fired. */
SNN_ALWAYS int32_t snn_fire_alone(const snn_reached *r, int32_t j, int32_t digits, int32_t *peak) {
    const int32_t quantum = snn_bits(r->quantum[j]), unit = snn_bits(r->unit[j]);
    float v = r->v[j], sent = 0.0f;
    int32_t fired = 0;
    while (fired < digits) {
        const int32_t bits = snn_bits(v), size = bits & SNN_MAGNITUDE_BITS;
        const int32_t over = (size < SNN_LARGEST_FINITE ? size : SNN_LARGEST_FINITE) - unit;
        const int32_t above = over < SNN_LARGEST_EXPONENT ? over : SNN_LARGEST_EXPONENT;
        float s;
        if (above < 0) {
            break;
        }
        s = snn_from_bits(((above & SNN_EXPONENT_BITS) + quantum) | (bits & ~SNN_MAGNITUDE_BITS));
        v -= s;
        sent += s;
        fired++;
        *peak = above > *peak ? above : *peak;
    }
    r->v[j] = v;
    r->sent[j] = sent;
    r->fired[j] = fired;
    return fired;
}
#endif

/* Up to `digits` spikes per neuron. Returns how many; `coarse` says whether one was too large for the kept sums. */
SNN_FUNCTION int32_t snn_encode(const snn_header *header, const float *parameters, const snn_reached *r, int32_t n,
                                int32_t digits, int32_t *coarse) {
    int32_t spikes = 0, peak = -1, digit, j;
#if defined(SNN_SCALAR)
    if (header->doubling) {
        for (j = 0; j < n; j++) {
            spikes += snn_fire_alone(r, j, digits, &peak);
        }
        *coarse = peak >= SNN_COARSE_EXPONENT ? 1 : 0;
        return spikes;
    }
#endif
    for (j = 0; j < n; j++) {
        r->sent[j] = 0.0f;
        r->fired[j] = 0;
    }
    for (digit = 0; digit < digits; digit++) {
        const int32_t more = header->doubling
            ? snn_fire_doubling(r, n, &peak)
            : snn_fire_digit(r, n, parameters + header->powers, header->power_count, &peak);
        spikes += more;
        if (more == 0) {
            break;
        }
    }
    *coarse = peak >= SNN_COARSE_EXPONENT ? 1 : 0;
    return spikes;
}

#endif
