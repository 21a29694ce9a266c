/* What every file of the core stands on: fixed-width integers, and arithmetic that is the same everywhere.
 *
 * A result's bits depend on neither compiler nor processor: IEEE float32 throughout, no contraction into fused
 * multiply-adds, no reassociation, the order of every sum written down. Vectors run over outputs, never along a sum.
 */
#ifndef SNN_PLATFORM_H
#define SNN_PLATFORM_H

#include <float.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__FAST_MATH__)
#error "compile without -ffast-math: the order of sums and the values of NaN and infinity matter"
#endif
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "float arithmetic must be carried out in float32 (on 32-bit x86: -msse2 -mfpmath=sse)"
#endif

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off", "no-trapping-math", "no-math-errno") /* the last two: loops with choices vectorise */
#elif defined(_MSC_VER)
#pragma fp_contract(off)
#endif

#if defined(__GNUC__) || defined(__clang__)
#define SNN_FUNCTION static inline __attribute__((unused))
#define SNN_ALWAYS static inline __attribute__((unused, always_inline))
#define SNN_RESTRICT __restrict__
#elif defined(_MSC_VER)
#define SNN_FUNCTION static __inline
#define SNN_ALWAYS static __forceinline
#define SNN_RESTRICT __restrict
#else
#define SNN_FUNCTION static
#define SNN_ALWAYS static
#define SNN_RESTRICT
#endif

#if defined(__AVX512F__)
#define SNN_VECTOR 16 /* floats of a register, where loops are written in vectors */
#elif defined(__AVX2__)
#define SNN_VECTOR 8
#endif
#if defined(SNN_VECTOR)
typedef float snn_floats __attribute__((vector_size(4 * SNN_VECTOR), aligned(4), may_alias));
typedef int32_t snn_integers __attribute__((vector_size(4 * SNN_VECTOR), aligned(4), may_alias));
#endif

#if !defined(SNN_VECTOR) && !defined(__SSE2__) && !defined(__ARM_NEON) && !defined(_MSC_VER)
#define SNN_SCALAR /* one float at a time: loops that skip work pay, loops side by side do not */
#endif
#if defined(SNN_SCALAR) && (defined(__GNUC__) || defined(__clang__))
#define SNN_APART static __attribute__((unused, noinline)) /* a loop that needs all of a small processor's registers */
#else
#define SNN_APART SNN_FUNCTION
#endif

#define SNN_INFINITY_BITS 0x7F800000
#define SNN_MAGNITUDE_BITS 0x7FFFFFFF

SNN_ALWAYS int32_t snn_bits(float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

SNN_ALWAYS float snn_from_bits(int32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

SNN_ALWAYS float snn_abs(float value) { return snn_from_bits(snn_bits(value) & SNN_MAGNITUDE_BITS); }

/* The magnitude of the first with the sign of the second; the first must not be negative. */
SNN_ALWAYS float snn_signed(float magnitude, float like) {
    return snn_from_bits(snn_bits(magnitude) | (snn_bits(like) & ~SNN_MAGNITUDE_BITS));
}

SNN_ALWAYS float snn_max(float a, float b) { return a > b ? a : b; }
SNN_ALWAYS float snn_min(float a, float b) { return a < b ? a : b; }

#endif
