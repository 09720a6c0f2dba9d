#include "mcugraph_reduce.h"

static float reduce_line(const struct mcu_reduce_f32 *p, const float *x)
{
    float found = x[0];
    for (int32_t i = 1; i < p->length; i++) {
        float value = x[i * p->inner];
        if (p->kind == MCU_SUM) {
            found += value;
        } else if ((p->kind == MCU_LARGEST) ? (value > found) : (value < found)) {
            found = value;
        }
    }
    return (p->kind == MCU_SUM) ? found * p->factor : found;
}

void mcu_reduce_f32(const struct mcu_reduce_f32 *p, const float *x, float *y, int32_t begin, int32_t end)
{
    const int32_t block = p->length * p->inner;
    const int32_t outer = (begin < end) ? p->outer : 0;
    for (int32_t o = 0; o < outer; o++) {
        for (int32_t i = 0; i < p->inner; i++) {
            y[o * p->inner + i] = reduce_line(p, &x[o * block + i]);
        }
    }
}
