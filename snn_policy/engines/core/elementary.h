/* exp, expm1, tanh, erf, log, log1p and the square root in float32, within 2 units in the last place, without libm.
 *
 * Branch-free, so that loops over them become vector code; sums and products in a fixed order, so that the bits are
 * the same everywhere. Polynomials: minimax fits of this project's own (tests/test_core_elementary.py measures them).
 */
#ifndef SNN_ELEMENTARY_H
#define SNN_ELEMENTARY_H

#include "platform.h"

/* x = n·ln 2 + r with a whole n and |r| ≤ ln 2 / 2; n is returned as a float and as an integer. */
SNN_ALWAYS float snn_reduce(float x, float *whole, int32_t *n) {
    const float rounder = 12582912.0f; /* 1.5·2²³: adding it rounds to a whole number */
    const float shifted = x * 1.44269504f + rounder;
    *whole = shifted - rounder;
    *n = snn_bits(shifted) - snn_bits(rounder);
    return (x - *whole * 0.693359375f) + *whole * 2.12194440e-4f; /* ln 2 in two parts, the first of few bits */
}

/* e^r − 1 for |r| ≤ ln 2 / 2. */
SNN_ALWAYS float snn_expm1_reduced(float r) {
    const float r2 = r * r;
    const float p = 0.5f + r * (0.166666672f
                  + r * (0.0416662656f + r * (0.00833326392f + r * (0.00139464019f + r * 0.000199188275f))));
    return r + r2 * p;
}

/* 2^n for −126 ≤ n ≤ 127. */
SNN_ALWAYS float snn_power_of_two(int32_t n) { return snn_from_bits((n + 127) * 0x00800000); }

SNN_ALWAYS float snn_exp(float x) {
    float whole;
    int32_t n;
    const float r = snn_reduce(snn_min(snn_max(x, -104.0f), 89.0f), &whole, &n);
    const int32_t half = ((n + 512) >> 1) - 256; /* in two factors: results may be subnormal or infinite */
    return ((1.0f + snn_expm1_reduced(r)) * snn_power_of_two(half)) * snn_power_of_two(n - half);
}

/* e^x − 1 = 2^n·(e^r − 1) + (2^n − 1) */
SNN_ALWAYS float snn_expm1(float x) {
    float whole;
    int32_t n;
    const float r = snn_reduce(snn_min(snn_max(x, -104.0f), 89.0f), &whole, &n);
    const int32_t half = ((n + 512) >> 1) - 256;
    const float one = snn_power_of_two(half), other = snn_power_of_two(n - half);
    const float scale = one * other, moderate = scale * snn_expm1_reduced(r) + (scale - 1.0f);
    const float large = ((1.0f + snn_expm1_reduced(r)) * one) * other;
    return n > 24 ? large : moderate;
}

/* |x| < 0.65: x + x³·Q(x²); else ±(1 − 2/(e^{2|x|} + 1)) */
SNN_ALWAYS float snn_tanh(float x) {
    const float size = snn_abs(x), z = x * x;
    const float q = -0.333333284f + z * (0.133331582f
                  + z * (-0.0539405644f + z * (0.0216663461f + z * (-0.00809196848f + z * 0.00206466508f))));
    const float small = x + x * (z * q);
    const float large = 1.0f - 2.0f / (snn_exp(snn_min(2.0f * size, 30.0f)) + 1.0f);
    return size < 0.65f ? small : snn_signed(large, x);
}

/* σ(x) = ½ + ½·tanh(x/2), which cannot overflow. */
SNN_ALWAYS float snn_sigmoid(float x) { return snn_tanh(x * 0.5f) * 0.5f + 0.5f; }

/* |x| < 1: x + x·P(x²); else ±(1 − e^{−|x|·Q(|x|)}) */
SNN_ALWAYS float snn_erf(float x) {
    const float a = snn_min(snn_abs(x), 4.0f), z = a * a;
    const float p = 0.128379166f + z * (-0.376126379f + z * (0.112837829f + z * (-0.0268654451f
                  + z * (0.00522107491f + z * (-0.000848471187f + z * (0.000112705457f + z * -9.68014047e-06f))))));
    const float q = 1.12848902f + a * (0.635978341f + a * (0.104414701f + a * (-0.0215389915f + a * (0.0020040283f
                  + a * (0.000421882054f + a * (-0.000191807005f + a * (3.0197938e-05f + a * -1.86072259e-06f)))))));
    const float large = 1.0f - snn_exp(-(a * q));
    return a < 1.0f ? x + x * p : snn_signed(large, x);
}

/* log(1 + x) for x > −1. 1 + x = 2^k·(1 + f) with 1 + f in [√½, √2); log(1+f) = 2s + s³·R(s²), s = f/(2+f). */
SNN_ALWAYS float snn_log1p(float x) {
    const float u = 1.0f + x;
    const int32_t shifted = snn_bits(u) - 0x3F3504F3; /* the bits of √½ */
    const int32_t k = shifted >> 23;
    const float whole = (float)k;
    const float scale = snn_power_of_two(k > 126 ? -126 : -k);
    const float rest = x < 1.0f ? x - (u - 1.0f) : 1.0f - (u - x); /* what rounding 1 + x lost */
    const float exact = k == 0 ? x : (snn_from_bits((shifted & 0x007FFFFF) + 0x3F3504F3) - 1.0f) + rest * scale;
    const float s = exact / (2.0f + exact), z = s * s;
    const float tail = z * (0.666666627f + z * (0.400003374f + z * (0.285372049f + z * 0.235842526f)));
    /* 2s + s·tail = f − s·(f − tail) */
    const float fraction = exact - s * (exact - tail);
    return (whole * 2.12194440e-4f * -1.0f + fraction) + whole * 0.693359375f;
}

/* log(x) for normal x > 0, as above: x = 2^k·(1 + f). */
SNN_ALWAYS float snn_log(float x) {
    const int32_t shifted = snn_bits(x) - 0x3F3504F3;
    const float whole = (float)(shifted >> 23);
    const float f = snn_from_bits((shifted & 0x007FFFFF) + 0x3F3504F3) - 1.0f, s = f / (2.0f + f), z = s * s;
    const float tail = z * (0.666666627f + z * (0.400003374f + z * (0.285372049f + z * 0.235842526f)));
    const float fraction = f - s * (f - tail);
    return (whole * 2.12194440e-4f * -1.0f + fraction) + whole * 0.693359375f;
}

/* √x for x ≥ 0: y → y·(3 − x·y²)/2 tends to 1/√x; then s = x·y, and once s + (x − s²)·y/2. x is brought into [1, 4)
 * first, by a power of four. Subnormal numbers count as zero. */
SNN_ALWAYS float snn_sqrt(float x) {
    const int32_t bits = snn_bits(snn_abs(x)), half = ((bits >> 23) - 127) >> 1;
    const float m = snn_from_bits(bits - half * 0x01000000), h = 0.5f * m;
    const float first = snn_from_bits(0x5F3759DF - (snn_bits(m) >> 1)); /* within 4 % */
    const float second = first * (1.5f - h * first * first), third = second * (1.5f - h * second * second);
    const float y = third * (1.5f - h * third * third), s = m * y;
    const float root = (s + (m - s * s) * (0.5f * y)) * snn_power_of_two(half);
    return x <= FLT_MAX ? (x >= FLT_MIN ? root : 0.0f) : x;
}

#endif
