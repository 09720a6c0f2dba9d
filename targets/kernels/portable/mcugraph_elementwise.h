/* Element-wise kernels of two operands, either of which may be broadcast. */
#ifndef MCUGRAPH_ELEMENTWISE_H
#define MCUGRAPH_ELEMENTWISE_H

#include "mcugraph.h"

/*
 * The result is [rows][width][channels]; element (r, w, c) of operand a stands at
 * slot(r, a_depth) * a_row + w * a_pixel + c * a_channel, and so for b. A step of 0 repeats a
 * value, a depth of 1 repeats a row. y_step as in mcugraph_conv.h.
 */

/*
 * y = clamp((a_multiplier * a + b_multiplier * b + bias) / 2^shift), rounded. Where tied is 1 a tie
 * goes to even, or to odd if odd is 1, and bias holds half less one; else bias holds half.
 */
struct mcu_add_s8 {
    int32_t width;
    int32_t channels;
    int32_t y_depth;
    int32_t y_step;
    int32_t a_depth;
    int32_t a_row;
    int32_t a_pixel;
    int32_t a_channel;
    int32_t b_depth;
    int32_t b_row;
    int32_t b_pixel;
    int32_t b_channel;
    int32_t a_multiplier;
    int32_t b_multiplier;
    int32_t bias;
    int32_t shift;
    int32_t tied;
    int32_t odd;
    int32_t low;
    int32_t high;
};

/*
 * y = clamp(requantize((a - a_zero) * (b - b_zero)) + y_zero). Where scale_down is not 0, ties go to
 * odd before y_zero is added; scale_up / scale_down is then the scale ratio.
 */
struct mcu_mul_s8 {
    int32_t width;
    int32_t channels;
    int32_t y_depth;
    int32_t y_step;
    int32_t a_depth;
    int32_t a_row;
    int32_t a_pixel;
    int32_t a_channel;
    int32_t b_depth;
    int32_t b_row;
    int32_t b_pixel;
    int32_t b_channel;
    int32_t a_zero;
    int32_t b_zero;
    int32_t y_zero;
    int32_t multiplier;
    int32_t shift;
    int32_t scale_up;
    int32_t scale_down;
    int32_t low;
    int32_t high;
};

/*
 * y = clamp((multiplier[i] * x + bias[i]) / 2^shift), rounded as in mcu_add_s8 with ties; i is
 * the place in the row modulo period.
 */
struct mcu_affine_s8 {
    int32_t row;
    int32_t period;
    int32_t x_depth;
    int32_t y_depth;
    const int32_t *multiplier;
    const int32_t *bias;
    int32_t shift;
    int32_t odd;
    int32_t low;
    int32_t high;
};

/*
 * The same for x below x_zero, which is y = slope * x; from x_zero on y = clamp((plain_multiplier *
 * x + plain_bias) / 2^shift).
 */
struct mcu_prelu_s8 {
    int32_t row;
    int32_t period;
    int32_t x_depth;
    int32_t y_depth;
    const int32_t *multiplier;
    const int32_t *bias;
    int32_t plain_multiplier;
    int32_t plain_bias;
    int32_t x_zero;
    int32_t shift;
    int32_t odd;
    int32_t low;
    int32_t high;
};

enum mcu_binary {
    MCU_ADD = 0,
    MCU_SUB = 1,
    MCU_MUL = 2,
    MCU_DIV = 3,
    MCU_MIN = 4,
    MCU_MAX = 5,
    MCU_POW = 6,
    MCU_PRELU = 7 /* a, or a * b below 0 */
};

/* y = clamp(a op b); kind is an mcu_binary. */
struct mcu_binary_f32 {
    int32_t kind;
    int32_t width;
    int32_t channels;
    int32_t y_depth;
    int32_t y_step;
    int32_t a_depth;
    int32_t a_row;
    int32_t a_pixel;
    int32_t a_channel;
    int32_t b_depth;
    int32_t b_row;
    int32_t b_pixel;
    int32_t b_channel;
    float low;
    float high;
};

/*
 * The same with a constant operand: b of a op b, or a where reversed. It repeats after `period`
 * elements of the row.
 */
struct mcu_binary_constant_f32 {
    int32_t kind;
    int32_t reversed;
    int32_t row;
    int32_t period;
    int32_t x_depth;
    int32_t y_depth;
    const float *constant;
    float low;
    float high;
};

void mcu_add_s8(const struct mcu_add_s8 *p, const int8_t *a, const int8_t *b, int8_t *y,
                int32_t begin, int32_t end);
void mcu_mul_s8(const struct mcu_mul_s8 *p, const int8_t *a, const int8_t *b, int8_t *y,
                int32_t begin, int32_t end);
void mcu_affine_s8(const struct mcu_affine_s8 *p, const int8_t *x, int8_t *y, int32_t begin,
                   int32_t end);
void mcu_prelu_s8(const struct mcu_prelu_s8 *p, const int8_t *x, int8_t *y, int32_t begin,
                  int32_t end);
void mcu_binary_f32(const struct mcu_binary_f32 *p, const float *a, const float *b, float *y,
                    int32_t begin, int32_t end);
void mcu_binary_constant_f32(const struct mcu_binary_constant_f32 *p, const float *x, float *y,
                             int32_t begin, int32_t end);

#endif
