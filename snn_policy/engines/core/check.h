/* Whether a program is one: every offset, length and number that the decisions rely on. Read nothing before it. */
#ifndef SNN_CHECK_H
#define SNN_CHECK_H

#include "bounds.h"
#include "check_connection.h"
#include "program.h"

#define SNN_MOST_STAGES 4096
#define SNN_MOST_ROW_SIZE (1 << 27)

SNN_FUNCTION int snn_check_header(const snn_header *h) {
    int good = snn_within(h->neuron, SNN_SIGMA_DELTA, SNN_MT) && snn_within(h->stage_count, 2, SNN_MOST_STAGES);
    good = good && snn_within(h->connection_count, 1, 16 * SNN_MOST_STAGES) && h->parameter_count >= 0;
    good = good && h->index_count >= 0 && h->first_spiking == (h->neuron == SNN_SIGMA_DELTA ? 0 : 1);
    good = good && snn_within(h->slots, 1, h->stage_count) && snn_within(h->head_kind, 0, SNN_HEAD_ARGMAX);
    good = good && snn_within(h->row_size, SNN_LANES, SNN_MOST_ROW_SIZE) && h->row_size % SNN_LANES == 0;
    good = good && h->state_size >= 0 && snn_within(h->timesteps, 1, 1 << 20) && h->macs >= 0;
    if (!good) {
        return 0;
    }
    if (h->neuron == SNN_SIGMA_DELTA) {
        good = snn_within(h->power_count, 2, 4096) && snn_within(h->rederive_after, 1, INT32_MAX);
        good = good && snn_holds(h->state_size, h->age, 1) && snn_holds_or_none(h->state_size, h->stale, 1);
        return good && snn_holds(h->parameter_count, h->powers, h->power_count) ? 1 : 0;
    }
    good = snn_within(h->timesteps, 1, 4096) && snn_within(h->levels, 1, 32);
    if (h->calibrates) {
        good = good && h->neuron == SNN_IF && !h->differential && snn_within(h->simulation_steps, 1, 4096);
        good = good && snn_within(h->least_iterations, 0, 64);
        good = good && snn_within(h->most_iterations, h->least_iterations, 64);
    }
    if (h->adaptive) {
        good = good && h->calibrates && snn_holds(h->state_size, h->extra, 1);
    }
    return good ? 1 : 0;
}

SNN_FUNCTION int snn_check_neurons(const snn_program *p, const snn_stage *s) {
    const snn_header *h = p->header;
    const float largest = snn_from_bits(SNN_INFINITY_BITS), *q = p->parameters + s->neurons, *unit = q + s->width;
    int32_t j;
    if (h->neuron != SNN_SIGMA_DELTA) {
        return snn_all_within(q, s->width, 0.0f, FLT_MAX) ? SNN_FITS : SNN_BAD_NUMBER;
    }
    if (!snn_all_within(q, s->width, 0.0f, FLT_MAX) || !snn_all_within(unit, s->width, FLT_MIN / 8388608.0f, largest)) {
        return SNN_BAD_NUMBER;
    }
    for (j = 0; h->doubling && j < s->width; j++) {
        const int dead = q[j] == 0.0f && unit[j] == largest;
        const int normal = q[j] > 7.8886091e-31f && q[j] < 1.2089258e24f && unit[j] >= q[j] * 0.5f;
        if (!dead && !normal) {
            return SNN_BAD_NUMBER;
        }
    }
    return SNN_FITS;
}

SNN_FUNCTION int snn_check_activation(int32_t activation, float levels) {
    return snn_within(activation, 0, SNN_NO_ACTIVATION) &&
           (activation != SNN_QCFS || (levels >= 1.0f && levels <= 65536.0f)) ? 1 : 0;
}

/* A stage's cell: its ports within z, what it remembers and what it is normalised by where they should be. */
SNN_FUNCTION int snn_check_cell(const snn_program *p, const snn_stage *s) {
    const snn_header *h = p->header;
    const int64_t port = snn_port(s), width = s->width;
    const int gates = s->cell == SNN_GRU || s->cell == SNN_LSTM;
    const int second = s->cell == SNN_GRU || s->cell == SNN_PRODUCT;
    if (!snn_within(s->cell, SNN_ELEMENTWISE, SNN_LSTM) || !snn_within(s->norm, SNN_NO_NORM, SNN_L2_NORM) ||
        !snn_within(s->z_width, 1, h->row_size - SNN_LANES)) {
        return SNN_BAD_STAGE;
    }
    if (port > s->z_width || (second ? s->second < port || s->second + port > s->z_width : s->second != 0)) {
        return SNN_BAD_STAGE;
    }
    if ((s->norm != SNN_NO_NORM && s->cell != SNN_ELEMENTWISE) ||
        (h->neuron != SNN_SIGMA_DELTA && (s->norm != SNN_NO_NORM || s->cell != SNN_ELEMENTWISE))) {
        return SNN_BAD_STAGE;
    }
    if (!snn_check_activation(s->activation, s->activation_levels) ||
        !snn_check_activation(s->other_activation, s->other_levels)) {
        return SNN_BAD_NUMBER;
    }
    if (gates && !(snn_holds(h->state_size, s->remembered, width) &&
                   snn_holds_or_none(h->parameter_count, s->cell_start, width))) {
        return SNN_BAD_OFFSET;
    }
    if (s->norm != SNN_NO_NORM) {
        if (!snn_holds(h->parameter_count, s->norm_weight, 2 * width)) {
            return SNN_BAD_OFFSET;
        }
        return s->epsilon >= FLT_MIN && s->epsilon <= 1e6f ? SNN_FITS : SNN_BAD_NUMBER;
    }
    return SNN_FITS;
}

SNN_FUNCTION int snn_check_stage(const snn_program *p, int32_t index) {
    const snn_header *h = p->header;
    const snn_stage *s = p->stages + index;
    const int sigma_delta = h->neuron == SNN_SIGMA_DELTA, last = index == h->stage_count - 1;
    const int spikes = !last && index >= h->first_spiking;
    int32_t i;
    if (!snn_within(s->width, 1, h->row_size - SNN_LANES)) {
        return SNN_BAD_STAGE;
    }
    if (s->connection_count < 0 || !snn_holds(h->connection_count, s->first_connection, s->connection_count)) {
        return SNN_BAD_STAGE;
    }
    if (index == 0 ? s->connection_count != 0 : s->connection_count < 1 || (!sigma_delta && s->connection_count != 1)) {
        return SNN_BAD_STAGE;
    }
    if (index > 0) {
        const int fault = snn_check_cell(p, s);
        if (fault != SNN_FITS) {
            return fault;
        }
        if (!snn_holds(h->parameter_count, s->bias, s->z_width)) {
            return SNN_BAD_OFFSET;
        }
    }
    if (spikes) {
        const int64_t vectors = sigma_delta ? 3 : 1;
        int good = snn_holds(h->parameter_count, s->neurons, vectors * s->width);
        good = good && snn_holds(h->state_size, s->memory, s->width);
        good = good && snn_holds_or_none(h->parameter_count, s->offset, s->width);
        good = good && snn_holds_or_none(h->parameter_count, s->fan_out, s->width) && s->uniform_fan_out >= 0;
        if (!good) {
            return SNN_BAD_OFFSET;
        }
        if (s->fan_out >= 0 && !snn_all_within(p->parameters + s->fan_out, s->width, 0.0f, 2147483520.0f)) {
            return SNN_BAD_NUMBER;
        }
        if (sigma_delta && !(snn_within(s->digits, 1, 64) && snn_within(s->slot, 0, h->slots - 1))) {
            return SNN_BAD_STAGE;
        }
        if (sigma_delta && !snn_holds_or_none(h->state_size, s->residual, s->width)) {
            return SNN_BAD_OFFSET;
        }
        if (sigma_delta && s->residual >= 0 && !(s->alpha >= 0.0f && s->alpha <= 1.0f)) {
            return SNN_BAD_NUMBER;
        }
        if (h->adaptive && !snn_within(s->levels, 1, 65536)) {
            return SNN_BAD_NUMBER;
        }
        if (snn_check_neurons(p, s) != SNN_FITS) {
            return SNN_BAD_NUMBER;
        }
    }
    for (i = 0; i < s->connection_count; i++) {
        const int fault = snn_check_connection(p, index, p->connections + s->first_connection + i);
        if (fault != SNN_FITS) {
            return fault;
        }
    }
    return SNN_FITS;
}

/* Of argmax heads, the numbers of the discrete actions: 0, …, 0, 1, …, 1, … up to the last of `action_size`. */
SNN_FUNCTION int snn_check_choices(const snn_program *p, int32_t outputs) {
    const float *number = p->parameters + p->header->head;
    int32_t k, seen = 0;
    for (k = 0; k < outputs; k++) {
        if (number[k] == (float)(seen + 1) && k > 0) {
            seen++;
        }
        if (!(number[k] == (float)seen)) {
            return 0;
        }
    }
    return seen + 1 == p->header->action_size;
}

/* SNN_FITS, or what is wrong. The four lengths are those of the blocks that `p` points to. */
SNN_FUNCTION int snn_check(const snn_program *p, int64_t stages, int64_t connections, int64_t parameters,
                           int64_t indices) {
    const snn_header *h = p->header;
    int32_t index, outputs;
    if (!snn_check_header(h)) {
        return SNN_BAD_HEADER;
    }
    if (h->stage_count != stages || h->connection_count != connections || h->parameter_count != parameters ||
        h->index_count != indices) {
        return SNN_BAD_HEADER;
    }
    for (index = 0; index < h->stage_count; index++) {
        const int fault = snn_check_stage(p, index);
        if (fault != SNN_FITS) {
            return fault;
        }
    }
    outputs = p->stages[h->stage_count - 1].width;
    if (h->head_kind == SNN_HEAD_ARGMAX ? !snn_within(h->action_size, 1, outputs) : h->action_size != outputs) {
        return SNN_BAD_HEADER;
    }
    if (!snn_holds(h->parameter_count, h->head, 4 * (int64_t)outputs) ||
        !snn_holds_or_none(h->parameter_count, h->normaliser, 2 * (int64_t)p->stages[0].width)) {
        return SNN_BAD_OFFSET;
    }
    if (h->head_kind == SNN_HEAD_ARGMAX && !snn_check_choices(p, outputs)) {
        return SNN_BAD_NUMBER;
    }
    if (h->neuron == SNN_SIGMA_DELTA &&
        !snn_all_within(p->parameters + h->powers, h->power_count, 1.0f, FLT_MAX)) {
        return SNN_BAD_NUMBER;
    }
    return SNN_FITS;
}

#endif
