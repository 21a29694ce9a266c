/* Synaptic operations where fan-outs differ: at an image's borders, and between sparse rows of weights. */
#ifndef SNN_FAN_OUT_H
#define SNN_FAN_OUT_H

#include "platform.h"

/* Small processors turn floats into 32-bit integers only. */

/* Synapses that the listed neurons' spikes cross, where fan-outs differ. */
SNN_FUNCTION int64_t snn_synapses(const float *fan_out, const int32_t *list, const int32_t *fired, int32_t count) {
    int64_t crossed = 0;
    int32_t i;
    for (i = 0; i < count; i++) {
        crossed += (int64_t)(int32_t)fan_out[list[i]] * (fired != NULL ? fired[i] : 1);
    }
    return crossed;
}

/* Synapses of the neurons whose `sent` is not zero, where fan-outs differ. */
SNN_FUNCTION int64_t snn_synapses_of(const float *SNN_RESTRICT fan_out, const float *SNN_RESTRICT sent, int32_t n) {
    int64_t synapses = 0;
    int32_t k;
    for (k = 0; k < n; k++) {
        synapses += sent[k] != 0.0f ? (int32_t)fan_out[k] : 0;
    }
    return synapses;
}

#endif
