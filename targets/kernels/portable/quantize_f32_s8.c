#include "mcugraph_quantize.h"
#include "mcugraph_math.h"

void mcu_quantize_f32_s8(const struct mcu_quantize_f32_s8 *p, const float *x, int8_t *y,
                         int32_t begin, int32_t end)
{
    for (int32_t row = begin; row < end; row++) {
        const float *in = &x[mcu_slot(row, p->x_depth) * p->row];
        int8_t *out = &y[mcu_slot(row, p->y_depth) * p->row];
        for (int32_t i = 0; i < p->row; i++) {
            float value = in[i] / p->scale;
            int32_t steps = -256; /* NaN as well, like onnxruntime on x86-64 */
            if (value > 256.0f) {
                steps = 256;
            } else if (value > -256.0f) {
                steps = (int32_t)mcu_rint(value);
            }
            out[i] = (int8_t)mcu_clamp(steps + p->zero, -128, 127);
        }
    }
}
