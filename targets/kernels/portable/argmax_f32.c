#include "mcugraph_reduce.h"

static int32_t place_of(const struct mcu_argmax_f32 *p, const float *x)
{
    float found = x[0] * (float)p->sign;
    int32_t place = 0;
    for (int32_t i = 1; i < p->length; i++) {
        float value = x[i * p->inner] * (float)p->sign;
        if ((value > found) || ((p->last != 0) && (value >= found))) {
            found = value;
            place = i;
        }
    }
    return place;
}

void mcu_argmax_f32(const struct mcu_argmax_f32 *p, const float *x, int64_t *y, int32_t begin, int32_t end)
{
    const int32_t block = p->length * p->inner;
    const int32_t outer = (begin < end) ? p->outer : 0;
    for (int32_t o = 0; o < outer; o++) {
        for (int32_t i = 0; i < p->inner; i++) {
            y[o * p->inner + i] = place_of(p, &x[o * block + i]);
        }
    }
}
