/* What a stage makes of its ports' z: its cell, in place; `snn_policy.ann.cells` defines them.
 *
 * A GRU or an LSTM remembers an analog number per neuron in the row's state, less what it starts from: zeros are a reset.
 * SNN_WITHOUT_NORMS and SNN_WITHOUT_GATES leave out what a program does not use.
 */
#ifndef SNN_CELL_H
#define SNN_CELL_H

#include "activation.h"
#include "program.h"

#if !defined(SNN_WITHOUT_NORMS)
#include "norm.h"
#endif
#if !defined(SNN_WITHOUT_GATES)
#include "gates.h"
#endif

/* The first `width` values of z become the stage's; `state` is the row's. */
SNN_FUNCTION void snn_advance(const snn_program *program, const snn_stage *stage, float *z, float *state) {
    const int32_t n = stage->width;
#if !defined(SNN_WITHOUT_GATES)
    const float *start = stage->cell_start < 0 ? NULL : program->parameters + stage->cell_start;
    if (stage->cell == SNN_GRU) {
        snn_gru(z, z + stage->second, start, n, state + stage->remembered);
        return;
    }
    if (stage->cell == SNN_LSTM) {
        snn_lstm(z, start, n, state + stage->remembered);
        return;
    }
#endif
#if !defined(SNN_WITHOUT_NORMS)
    if (stage->norm != SNN_NO_NORM) {
        snn_norm(z, n, stage->norm, program->parameters + stage->norm_weight, stage->epsilon);
    }
#endif
    snn_activate(z, n, stage->activation, stage->parameter, stage->activation_levels);
#if !defined(SNN_WITHOUT_GATES)
    if (stage->cell == SNN_PRODUCT) {
        float *other = z + stage->second;
        snn_activate(other, n, stage->other_activation, stage->other_parameter, stage->other_levels);
        snn_multiply(z, other, n);
    }
#endif
    (void)program;
    (void)state;
}

#endif
