/* Between float32 and int8: real = scale * (integer - zero). */
#ifndef MCUGRAPH_QUANTIZE_H
#define MCUGRAPH_QUANTIZE_H

#include "mcugraph.h"

/* y = saturate(round(x / scale) + zero), half to even. */
struct mcu_quantize_f32_s8 {
    int32_t row;
    int32_t x_depth;
    int32_t y_depth;
    float scale;
    int32_t zero;
};

struct mcu_dequantize_s8_f32 {
    int32_t row;
    int32_t x_depth;
    int32_t y_depth;
    float scale;
    int32_t zero;
};

void mcu_quantize_f32_s8(const struct mcu_quantize_f32_s8 *p, const float *x, int8_t *y,
                         int32_t begin, int32_t end);
void mcu_dequantize_s8_f32(const struct mcu_dequantize_s8_f32 *p, const int8_t *x, float *y,
                           int32_t begin, int32_t end);

#endif
