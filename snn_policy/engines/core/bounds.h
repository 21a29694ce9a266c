/* What checking a program comes down to: numbers and offsets within bounds. */
#ifndef SNN_BOUNDS_H
#define SNN_BOUNDS_H

#include "platform.h"

enum snn_fault {
    SNN_FITS, SNN_BAD_HEADER, SNN_BAD_STAGE, SNN_BAD_CONNECTION, SNN_BAD_GEOMETRY, SNN_BAD_OFFSET, SNN_BAD_NUMBER
};

SNN_FUNCTION int snn_within(int32_t value, int32_t least, int32_t most) {
    return least <= value && value <= most ? 1 : 0;
}

/* Whether `length` elements from `offset` on lie within `size`. */
SNN_FUNCTION int snn_holds(int32_t size, int32_t offset, int64_t length) {
    return offset >= 0 && length >= 0 && offset + length <= size ? 1 : 0;
}

SNN_FUNCTION int snn_holds_or_none(int32_t size, int32_t offset, int64_t length) {
    return offset == -1 || snn_holds(size, offset, length) ? 1 : 0;
}

/* Whether all of n numbers are within [least, most]; NaN is not. */
SNN_FUNCTION int snn_all_within(const float *values, int32_t n, float least, float most) {
    int32_t j;
    for (j = 0; j < n; j++) {
        if (!(values[j] >= least && values[j] <= most)) {
            return 0;
        }
    }
    return 1;
}

#endif
