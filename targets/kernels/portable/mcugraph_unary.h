/* Element-wise kernels of one operand. x and y may be the same. */
#ifndef MCUGRAPH_UNARY_H
#define MCUGRAPH_UNARY_H

#include "mcugraph.h"

/* y = table[x + 128]: any function of one int8, rescaling included. */
struct mcu_map_s8 {
    int32_t row;
    int32_t x_depth;
    int32_t y_depth;
    const int8_t *table;
};

enum mcu_unary {
    MCU_CLIP = 0,         /* to [alpha, beta] */
    MCU_LEAKY = 1,        /* x or alpha * x */
    MCU_THRESHOLDED = 2,  /* x above alpha, else 0 */
    MCU_SIGMOID = 3,
    MCU_TANH = 4,
    MCU_HARD_SIGMOID = 5, /* alpha * x + beta in [0, 1] */
    MCU_HARD_SWISH = 6,
    MCU_ELU = 7,          /* beta * (x or alpha * (exp(x) - 1)) */
    MCU_CELU = 8,         /* x or alpha * (exp(x / alpha) - 1) */
    MCU_GELU = 9,
    MCU_SOFTPLUS = 10,
    MCU_SOFTSIGN = 11,
    MCU_MISH = 12,
    MCU_GELU_TANH = 13,
    MCU_SWISH = 14,       /* x * sigmoid(alpha * x) */
    MCU_EXP = 15,
    MCU_LOG = 16,
    MCU_SQRT = 17,
    MCU_NEG = 18,
    MCU_ABS = 19,
    MCU_ERF = 20,
    MCU_RECIPROCAL = 21,
    MCU_FLOOR = 22,
    MCU_CEIL = 23,
    MCU_ROUND = 24,
    MCU_SIGN = 25,
    MCU_SIN = 26,
    MCU_COS = 27
};

/* y = f(x); kind is an mcu_unary. */
struct mcu_unary_f32 {
    int32_t kind;
    float alpha;
    float beta;
    int32_t row;
    int32_t x_depth;
    int32_t y_depth;
};

void mcu_map_s8(const struct mcu_map_s8 *p, const int8_t *x, int8_t *y, int32_t begin,
                int32_t end);
void mcu_unary_f32(const struct mcu_unary_f32 *p, const float *x, float *y, int32_t begin,
                   int32_t end);

#endif
