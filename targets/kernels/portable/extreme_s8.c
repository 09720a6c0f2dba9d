#include "mcugraph_reduce.h"

static int8_t extreme(const struct mcu_extreme_s8 *p, const int8_t *x)
{
    int32_t found = x[0];
    for (int32_t i = 1; i < p->length; i++) {
        int32_t value = x[i * p->inner];
        if (value * p->sign > found * p->sign) {
            found = value;
        }
    }
    return p->table[found + 128];
}

void mcu_extreme_s8(const struct mcu_extreme_s8 *p, const int8_t *x, int8_t *y, int32_t begin, int32_t end)
{
    const int32_t block = p->length * p->inner;
    const int32_t outer = (begin < end) ? p->outer : 0;
    for (int32_t o = 0; o < outer; o++) {
        for (int32_t i = 0; i < p->inner; i++) {
            y[o * p->inner + i] = extreme(p, &x[o * block + i]);
        }
    }
}
