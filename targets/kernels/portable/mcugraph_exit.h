/* The early exit: is one of the probabilities high enough? */
#ifndef MCUGRAPH_EXIT_H
#define MCUGRAPH_EXIT_H

#include "mcugraph.h"

/* 1 where one of `count` values is at least `least`, else 0; takes as long either way. */
int mcu_exit_s8(const int8_t *x, int32_t count, int32_t least);
int mcu_exit_f32(const float *x, int32_t count, float least);

#endif
