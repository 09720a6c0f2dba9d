#include "mcugraph_exit.h"

int mcu_exit_s8(const int8_t *x, int32_t count, int32_t least)
{
    int reached = 0;
    for (int32_t i = 0; i < count; i++) {
        reached |= (x[i] >= least) ? 1 : 0;
    }
    return reached;
}
