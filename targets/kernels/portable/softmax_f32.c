#include "mcugraph_math.h"
#include "mcugraph_softmax.h"

static void softmax_line(const struct mcu_softmax_f32 *p, const float *x, float *y)
{
    const int32_t size = p->length * p->inner;
    float largest = x[0];
    float sum = 0.0f;
    for (int32_t i = 0; i < size; i += p->inner) {
        if (x[i] > largest) {
            largest = x[i];
        }
    }
    for (int32_t i = 0; i < size; i += p->inner) {
        float part = mcu_exp(x[i] - largest);
        sum += part;
        y[i] = (p->logarithm != 0) ? x[i] - largest : part;
    }
    if (p->logarithm != 0) {
        sum = mcu_log(sum);
    }
    for (int32_t i = 0; i < size; i += p->inner) {
        y[i] = (p->logarithm != 0) ? y[i] - sum : y[i] / sum;
    }
}

void mcu_softmax_f32(const struct mcu_softmax_f32 *p, const float *x, float *y, int32_t begin,
                     int32_t end)
{
    const int32_t block = p->length * p->inner;
    const int32_t size = p->outer * block;
    for (int32_t row = begin; row < end; row++) {
        const float *in = &x[mcu_slot(row, p->x_depth) * size];
        float *out = &y[mcu_slot(row, p->y_depth) * size];
        for (int32_t o = 0; o < size; o += block) {
            for (int32_t i = 0; i < p->inner; i++) {
                softmax_line(p, &in[o + i], &out[o + i]);
            }
        }
    }
}
